"""Calls that last, and what ends them early: their key ends, or their caller leaves.

A held reply or a stream may be open for minutes. Whoever revokes a key does not want to wait for
it: the keyring names the keys that have ended, and each open call of theirs is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakSet


class OpenCall:
    """A call that lasts. `key_ended` is true as soon as its key is revoked or has expired, and
    `caller_gone` as soon as nobody is there to read the reply."""

    def __init__(self) -> None:
        self.key_ended = self.caller_gone = False
        self._then: list[Callable[[], object]] = []

    def on_end(self, do: Callable[[], object]) -> None:
        """Call `do` when the key ends or the caller leaves, or now if that has happened."""
        if self.key_ended or self.caller_gone:
            do()
        self._then.append(do)

    def end(self) -> None:
        """The key has ended."""
        self.key_ended = True
        self._tell()

    def leave(self) -> None:
        """The caller has gone."""
        self.caller_gone = True
        self._tell()

    def _tell(self) -> None:
        for do in self._then:
            do()


class OpenCalls:
    """All of them, by the mark of their key. One that nobody holds any more is forgotten."""

    def __init__(self) -> None:
        self._by_mark: dict[bytes, WeakSet[OpenCall]] = {}

    def open(self, mark: bytes) -> OpenCall:
        """A new one."""
        call = OpenCall()
        self._by_mark.setdefault(mark, WeakSet()).add(call)
        return call

    def marks(self) -> list[bytes]:
        """The keys that have open calls."""
        self._by_mark = {mark: calls for mark, calls in self._by_mark.items() if calls}
        return list(self._by_mark)

    def end(self, marks: Iterable[bytes]) -> None:
        """These keys have ended."""
        for mark in marks:
            for call in list(self._by_mark.pop(mark, ())):
                call.end()
