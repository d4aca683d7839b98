"""What a server remembers of the keys in the database, and whether that can be relied on.

It can while the session that listens is well, and all that it has announced was read since: then a
key that is not remembered is none. In doubt the database has to be asked, so that a revoked key
does not work on a server that has just not heard of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from openaibatching.server.auth.key_format import MARK_BYTES


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key of the database, as a server knows it. `ends_in_s` seconds after it was read it ends;
    None: no end is known."""

    id: uuid.UUID
    tenant: str
    name: str
    scope: str
    digest: bytes
    ends_in_s: float | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of the database, as people see it. It ends at `revoked_at`, which may lie ahead, or at
    `expires_at`, whichever comes first, and has `ended` after."""

    id: uuid.UUID
    tenant: str
    name: str
    scope: str
    hint: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    ended: bool

    @property
    def ends_at(self) -> datetime | None:
        """When it ends or has ended; None: never."""
        return min((at for at in (self.revoked_at, self.expires_at) if at), default=None)

    @property
    def state(self) -> str:
        """`active`, `ending` (at `revoked_at`), `revoked` or `expired`."""
        if self.ended:
            return "revoked" if self.ends_at == self.revoked_at else "expired"
        return "active" if self.revoked_at is None else "ending"


class KeyMemory:
    """Times are seconds of a clock that only goes forward, the same for all calls."""

    def __init__(self) -> None:
        self._keys: dict[bytes, tuple[KnownKey, float]] = {}
        self._uses: dict[uuid.UUID, float] = {}
        self._changes = 0
        self._known_changes: int | None = None
        self._listening = False

    @property
    def certain(self) -> bool:
        """Whether a key that is not remembered is none, and one that is remembered still one."""
        return self._listening and self._known_changes == self._changes

    def changed(self) -> None:
        """The session says that keys were changed, or that it listens (again)."""
        self._listening = True
        self._changes += 1

    def cut_off(self) -> None:
        """The session is interrupted: changes go unheard."""
        self._listening = False

    @property
    def changes(self) -> int:
        """How many changes were announced: ask before reading, and give it to `learn`."""
        return self._changes

    def learn(self, keys: Iterable[KnownKey], read_at: float, changes: int) -> None:
        """Remember these keys and no others. `read_at` is before they were read, so that none lives
        longer than it should, and so is `changes`: one that came meanwhile may not be in them."""
        self._keys = {
            key.digest[:MARK_BYTES]: (key, read_at + _or_never(key.ends_in_s)) for key in keys
        }
        self._known_changes = changes

    def find(self, mark: bytes, now: float) -> KnownKey | None:
        """The remembered key whose digest begins so, unless it has ended."""
        key, end = self._keys.get(mark, (None, 0.0))
        return key if now < end else None

    def end_of(self, mark: bytes) -> float | None:
        """When the remembered key ends, of the same clock; None for one that is not remembered."""
        _, end = self._keys.get(mark, (None, None))
        return end

    def note_use(self, id_: uuid.UUID, now: float) -> None:
        """The key is used."""
        self._uses[id_] = now

    def uses(self) -> dict[uuid.UUID, float]:
        """{id: when it was last used} of the keys that were used and are not `written`."""
        return dict(self._uses)

    def written(self, uses: Mapping[uuid.UUID, float]) -> None:
        """Forget these uses; one that came meanwhile stays."""
        for id_, at in uses.items():
            if self._uses.get(id_) == at:
                del self._uses[id_]


def _or_never(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds
