"""Which tenants get finished answers, so that a page can say whose are never asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from cachetools import TTLCache

from openaibatching.server.database.loops import run_forever
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.request import Request
from openaibatching.server.errors import DatabaseUnavailable
from openaibatching.server.requests import store

EVERY_S = 60
"""A tenant's row is written at most once in so many seconds, however many answers are read."""
TENANTS_MAX = 10_000
CLOSE_S = 1.0


class AnswersRead:
    """Remembers who got an answer; `run` writes it down."""

    def __init__(self, database: Database, now: Callable[[], datetime | None]) -> None:
        """`now`: as Context.now."""
        self._database, self._now = database, now
        self._lately: TTLCache[str, bool] = TTLCache(TENANTS_MAX, EVERY_S)
        self._unwritten: set[str] = set()
        self._woken = asyncio.Event()

    def note(self, request: Request) -> None:
        """A program is given this request as it is now."""
        if request.finished and request.tenant not in self._lately:
            self._lately[request.tenant] = True
            self._unwritten.add(request.tenant)
            self._woken.set()

    async def run(self) -> None:
        """Write, until cancelled."""
        await run_forever("answers_read", self._write, woken=self._woken)

    async def close(self) -> None:
        """Write what is left, if the database is there."""
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._write()

    async def _write(self) -> None:
        tenants = set(self._unwritten)
        if tenants:
            async with self._database.statement() as conn:
                await store.note_answers_read(conn, tenants, self._now())
            self._unwritten -= tenants
