"""Which errors say that PostgreSQL is away for a moment, and how long a caller waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg_pool import PoolTimeout

from openaibatching.server.database.statements import T
from openaibatching.server.errors import DatabaseConflict, DatabaseUnavailable

OUTAGE_S_MAX = 4.0
"""How long a call is kept trying before its caller hears 503: a restart of PostgreSQL passes."""

# ReadOnlySqlTransaction: a failover has left us on a standby. Retrying there is as right as
# with any other outage. OperationalError covers the rest: shutdown, recovery, disk full, …
_OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
)
# Nothing of the transaction is left, and the same one again works
# (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html).
_CONFLICTS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


@asynccontextmanager
async def outages_named() -> AsyncIterator[None]:
    """Turn psycopg's many ways to say that the database is away into DatabaseUnavailable, and a
    deadlock or a serialization failure into DatabaseConflict."""
    try:
        yield
    except _CONFLICTS as error:
        raise DatabaseConflict from error
    except _OUTAGES as error:
        raise DatabaseUnavailable from error


async def through_outage(ask: Callable[[], Awaitable[T]], outage_s: float) -> T:
    """What `ask` gives, asked again while the database is away: its restart passes unseen.

    Raises DatabaseUnavailable when it is still away after `outage_s` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + outage_s
    while True:
        try:
            return await ask()
        except DatabaseUnavailable:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(0.1)
