"""Which tenant a presented key belongs to.

Keys are of two kinds: those of BATCH_SERVER_API_KEY, and those that `openaibatching keys` has put
into the database. Both are told from memory, so a call costs the database nothing more. What the
memory cannot be relied on for (auth/key_cache.py) the database is asked, but only for what has the
form of its keys."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from contextlib import suppress

from openaibatching.server.auth import key_format, key_store
from openaibatching.server.auth.holder import OPERATOR, POWERS, SUBMIT, Holder
from openaibatching.server.auth.key_cache import KeyMemory, KnownKey
from openaibatching.server.auth.key_format import FORM, MARK_BYTES
from openaibatching.server.auth.open_calls import OpenCall, OpenCalls
from openaibatching.server.auth.wrong_keys import WrongKeys
from openaibatching.server.config.settings import DEFAULT_TENANT
from openaibatching.server.database.loops import run_forever
from openaibatching.server.database.outages import OUTAGE_S_MAX
from openaibatching.server.database.pool import Database
from openaibatching.server.errors import DatabaseUnavailable
from openaibatching.server.telemetry import logs

log = logs.get()

LOOK_S = 5.0
"""How often the keys are read even if nothing was heard, and uses are written."""
CLOSE_S = 1.0


ENVIRONMENT = "BATCH_SERVER_API_KEY"
"""The name of the keys that are configured."""


class Keyring:
    """All keys that are good here. `run` keeps it up to date."""

    def __init__(
        self, server_keys: dict[str, str], database: Database, memory: KeyMemory | None = None
    ) -> None:
        self._database = database
        self._memory = memory or KeyMemory()
        self._woken = asyncio.Event()
        self._open = OpenCalls()
        self._environment: list[Holder] = []
        self.wrong = WrongKeys(database)
        self.renew(server_keys)

    def renew(self, server_keys: dict[str, str]) -> None:
        """These are the keys of BATCH_SERVER_API_KEY from now on: {tenant: key}. What a key that is
        no more has open ends."""
        powers = OPERATOR if server_keys.keys() == {DEFAULT_TENANT} else POWERS[SUBMIT]
        self._environment = [
            Holder(tenant, key_format.digest(key), ENVIRONMENT, powers=powers)
            for tenant, key in server_keys.items()
        ]
        self._woken.set()

    async def holder(self, key: str) -> Holder | None:
        """Who presents `key`, or None. Takes the same time for every wrong key.

        Raises DatabaseUnavailable when only the database can tell.
        """
        presented, found = key_format.digest(key), None
        for holder in self._environment:
            if hmac.compare_digest(holder.digest, presented):
                found = holder
        if found is None and FORM.fullmatch(key):
            known = await self._known(presented[:MARK_BYTES])
            if known is not None and hmac.compare_digest(known.digest, presented):
                found = _holder(known)
                self.note_use(found)
        return found

    @property
    def configured(self) -> Sequence[Holder]:
        """The keys of BATCH_SERVER_API_KEY."""
        return self._environment

    def open_call(self, holder: Holder) -> OpenCall:
        """A call that may last, made with this key: it ends with the key."""
        return self._open.open(holder.mark)

    def note_use(self, holder: Holder) -> None:
        """The key is used now: `run` writes it down."""
        if holder.id is not None:
            self._memory.note_use(holder.id, time.monotonic())

    async def _known(self, mark: bytes) -> KnownKey | None:
        if self._memory.certain:
            return self._memory.find(mark, time.monotonic())
        return await self._database.read(lambda conn: key_store.known_key(conn, mark), OUTAGE_S_MAX)

    # ----- keeping it up to date -----

    def changed(self) -> None:
        """Keys were changed, or the session listens again: they are read anew."""
        self._memory.changed()
        self._woken.set()

    def cut_off(self) -> None:
        """The session that listens is interrupted."""
        self._memory.cut_off()

    async def run(self) -> None:
        """Read the keys when they change, and write which were used, until cancelled."""
        await run_forever("keyring", self._catch_up, woken=self._woken, every_s=self._pause_s)

    async def _catch_up(self) -> None:
        await self._read()
        await self._write_uses()

    async def close(self) -> None:
        """Write what was used since the last time, if the database is there."""
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._write_uses()
                await self.wrong.write()

    async def _read(self) -> None:
        changes, now = self._memory.changes, time.monotonic()
        async with self._database.statement() as conn:
            known = await key_store.known_keys(conn)
        self._memory.learn(known, now, changes)
        self._end_calls()

    def _pause_s(self) -> float:
        """Until the next look, or until the first key that has open calls ends by time."""
        now = time.monotonic()
        ends = [self._memory.end_of(mark) for mark in self._open.marks()]
        return max(0.0, min([LOOK_S, *(end - now for end in ends if end is not None)]))

    def _end_calls(self) -> None:
        now, configured = time.monotonic(), {holder.mark for holder in self._environment}
        self._open.end(
            mark
            for mark in self._open.marks()
            if mark not in configured and self._memory.find(mark, now) is None
        )

    async def _write_uses(self) -> None:
        if uses := self._memory.uses():
            now = time.monotonic()
            async with self._database.statement() as conn:
                await key_store.note_uses(conn, {id_: now - at for id_, at in uses.items()})
            self._memory.written(uses)


def _holder(known: KnownKey) -> Holder:
    powers = POWERS.get(known.scope, frozenset())
    return Holder(known.tenant, known.digest, known.name, known.scope, powers, known.id)
