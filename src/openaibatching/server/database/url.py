"""Where the database is: POSTGRES_URL, or the embedded PostgreSQL, started and watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openaibatching.server.config.settings import DatabaseSettings
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.server.telemetry import logs
from openaibatching.server.telemetry.limited_log import Sparing

log = logs.get()
REVIVE_S = 1.0


@asynccontextmanager
async def database_url(settings: DatabaseSettings) -> AsyncIterator[str]:
    """POSTGRES_URL, or that of the embedded PostgreSQL, which runs as long as this context."""
    if settings.postgres_url is not None:
        yield settings.postgres_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    await asyncio.to_thread(embedded.start)
    guard = asyncio.create_task(_guard(embedded))
    try:
        yield embedded.url
    finally:
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
        await asyncio.to_thread(embedded.stop)


async def _guard(embedded: EmbeddedPostgres) -> None:
    """Nobody else would start the embedded database again if it died.

    So nothing ends this guard: out of files, memory or threads, it looks again a moment later.
    """
    failed = Sparing("embedded_database_failed")
    while True:
        await asyncio.sleep(REVIVE_S)
        try:
            await asyncio.to_thread(embedded.revive)
        except Exception as error:
            if times := failed.times():
                log.error("embedded_database_failed", detail=str(error), times=times)
