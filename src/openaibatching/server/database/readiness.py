"""Whether a server is ready, remembered for a moment: anybody may ask, as often as they like."""

from __future__ import annotations

import asyncio
import time

from openaibatching.server.database import outages, requirements
from openaibatching.server.database.pool import Database

REMEMBERED_S = 1.0
"""A load balancer asks every few seconds; whoever asks more often hears the same again."""
MISSING_REMEMBERED_S = 5.0
"""What a database offers changes less often than whether it is there, and takes two connections."""
ANSWER_S = 2.0


class Readiness:
    """One check at a time, however many ask."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._why_not: str | None = None
        self._known_until = self._lost_at = float("-inf")
        self._missing: str | None = None
        self._missing_known_until = float("-inf")
        self._check: asyncio.Task[str | None] | None = None

    async def why_not(self) -> str | None:
        """Why the server is not ready, in words; None if it is, or was a moment ago."""
        if time.monotonic() < self._known_until:
            return self._why_not
        if self._check is None:
            self._check = asyncio.create_task(self._look())
        # One who asks and goes away must not end the check of all others.
        return await asyncio.shield(self._check)

    def forget(self) -> None:
        """The database was lost just now: what is remembered may be wrong."""
        self._known_until, self._lost_at = float("-inf"), time.monotonic()

    async def _look(self) -> str | None:
        try:
            began = time.monotonic()
            self._why_not = await self._ask()
            if began > self._lost_at:
                self._known_until = began + REMEMBERED_S
            return self._why_not
        finally:
            self._check = None

    async def _ask(self) -> str | None:
        if not await self._database.ping(ANSWER_S):
            return "The database does not answer."
        if time.monotonic() >= self._missing_known_until:
            async with outages.outages_named():
                self._missing = await requirements.missing(self._database.url)
            self._missing_known_until = time.monotonic() + MISSING_REMEMBERED_S
        return f"POSTGRES_URL: {self._missing}." if self._missing else None
