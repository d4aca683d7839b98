"""Who has one of a limited number of places. Pure.

A stranger is whoever has not shown a key yet. The strangers have a share of the places, and when
it is full the oldest of them goes: so no number of connections keeps a caller out for longer than
it takes to show a key, whatever they are in the middle of. Strangers never take a place from
somebody with a key who is being served.
"""

from __future__ import annotations

from typing import Generic, TypeVar

STRANGERS_SHARE = 0.75

_Guest = TypeVar("_Guest")


class Places(Generic[_Guest]):
    """The places, and what is known of those who have one."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._strangers_most = max(1, int(most * STRANGERS_SHARE))
        self._taken: set[_Guest] = set()
        self._strangers: dict[_Guest, None] = {}  # the oldest first
        self.idle: dict[_Guest, float] = {}
        """Since when each has waited for a call, in the caller's time; the longest first."""

    def take(self, guest: _Guest) -> _Guest | None:
        """A place for a stranger. Who loses one for it: nobody, another, or `guest` itself."""
        loser = self._loser(guest)
        if loser is not guest:
            if loser is not None:
                self.leave(loser)
            self._taken.add(guest)
            self._strangers[guest] = None
        return loser

    def _loser(self, guest: _Guest) -> _Guest | None:
        if len(self._strangers) < self._strangers_most and len(self._taken) < self.most:
            return None
        return next(iter(self._strangers), next(iter(self.idle), guest))

    def leave(self, guest: _Guest) -> None:
        """One place more; nothing if it had none."""
        self._taken.discard(guest)
        self._strangers.pop(guest, None)
        self.idle.pop(guest, None)

    def know(self, guest: _Guest) -> None:
        """It has shown a key."""
        self._strangers.pop(guest, None)

    def wait(self, guest: _Guest, now: float) -> None:
        """From now on, it waits for a call."""
        self.idle.pop(guest, None)  # to the end
        if guest in self._taken:
            self.idle[guest] = now

    def called(self, guest: _Guest) -> None:
        """It has made a call."""
        self.idle.pop(guest, None)

    @property
    def strangers(self) -> int:
        """How many have shown no key."""
        return len(self._strangers)

    def all(self) -> list[_Guest]:
        """Who has a place."""
        return list(self._taken)
