"""PostgreSQL: named queries, the connection pool, migrations, and the session that listens.

What only psycopg can say is translated here: everything that means "the database is out of
reach" becomes DatabaseUnavailable, so the rest of the server knows one such error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from openaibatching.server.database.bulk_throttle import Turns
from openaibatching.server.database.outages import OUTAGE_S_MAX, outages_named, through_outage
from openaibatching.server.database.statements import Connection, T, execute, sql_text
from openaibatching.server.errors import DatabaseUnavailable
from openaibatching.server.telemetry import logs

log = logs.get()
CONNECTION_WAIT_S = 5.0
"""How long a caller waits for a free connection before it hears 503."""
CONNECTIONS_MAX = 10
ACCEPTING = 2
"""So many more are kept for storing calls, one for each writer (requests/group_commit.py)."""
CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    # Whatever the role or PGCLIENTENCODING says.
    "client_encoding": "utf8",
    # How a server shows in pg_stat_activity.
    "fallback_application_name": f"openaibatching pid {os.getpid()}",
    # A database that falls silent (a cut cable, a failover) is noticed within 15 seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
SESSION = sql_text("session.sql").encode()


class Database:
    """The pool. `open` before use; `transaction` and `statement` are the ways to a connection."""

    def __init__(self, url: str, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self.url = url
        self.turns = Turns()
        self._pool = _pool(url, 2, connections_max)
        self._accepting = _pool(url, 1, ACCEPTING)

    def renew(self, url: str) -> None:
        """Connect by this URL of the same database from now on."""
        self.url = self._pool.conninfo = self._accepting.conninfo = url

    async def open(self) -> None:
        """Start the pool. It connects in the background."""
        await self._pool.open()
        await self._accepting.open()

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(self._pool.close(timeout=1), self._accepting.close(timeout=1))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection with an open transaction; committed at the end, or rolled back.

        Raises DatabaseUnavailable when the database is out of reach; then it is unknown
        whether a commit that was under way took effect.
        """
        async with outages_named(), self._pool.connection() as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """A connection for one statement, which is its own transaction: one round trip.

        Raises DatabaseUnavailable as `transaction` does.
        """
        async with outages_named(), self._pool.connection() as conn:
            yield conn

    @asynccontextmanager
    async def accepting(self) -> AsyncIterator[Connection]:
        """As `statement`, on a connection that is kept for storing calls: they wait for nothing
        else that the server does."""
        async with outages_named(), self._accepting.connection() as conn:
            yield conn

    async def read(
        self, query: Callable[[Connection], Awaitable[T]], outage_s: float = OUTAGE_S_MAX
    ) -> T:
        """What `query` finds, `through_outage`: reading again is always safe."""

        async def ask() -> T:
            async with self.transaction() as conn:
                return await query(conn)

        return await through_outage(ask, outage_s)

    async def ping(self, timeout: float) -> bool:
        """Whether the database answers within `timeout` seconds, and takes writes."""
        try:
            async with asyncio.timeout(timeout), self.transaction() as conn:
                row = await (await execute(conn, "ping", {})).fetchone()
        except (TimeoutError, DatabaseUnavailable):
            return False
        return row is not None and bool(row[0])


@asynccontextmanager
async def one_transaction(url: str) -> AsyncIterator[Connection]:
    """As `Database.transaction`, on a connection of its own: for a command that has no server."""
    async with outages_named(), await AsyncConnection.connect(url, **CONNECTION) as conn:
        await configure(conn)
        async with conn.transaction():
            yield conn


def _pool(url: str, least: int, most: int) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(
        url,
        open=False,
        min_size=min(least, most),
        max_size=most,
        timeout=CONNECTION_WAIT_S,
        max_lifetime=1800,
        reconnect_timeout=30,
        configure=configure,
        kwargs=CONNECTION,
    )


async def configure(conn: Connection) -> None:
    """Give the connection the settings that every session of ours has (session.sql)."""
    await conn.execute(SESSION)
