"""PostgreSQL: named queries, the connection pool, migrations, and the session that listens.

What only psycopg can say is translated here: everything that means "the database is out of
reach" becomes DatabaseUnavailable, so the rest of the server knows one such error.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import AsyncRowFactory, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from openaibatching.server import journal
from openaibatching.server.errors import (
    ConfigError,
    DatabaseConflict,
    DatabaseUnavailable,
    UnstorableText,
)
from openaibatching.server.turns import Turns

log = journal.get()

Connection = AsyncConnection[Any]
S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

CHANNEL = "openaibatching"
PROBE = "probe "
"""How a notification begins that only tries whether it is heard (requirements.py)."""
LOCK_WAIT = "5s"
"""How long a migration waits for a table that somebody uses: meanwhile all others wait, too."""
MIGRATION_LOCK = 9487_0001
CONNECTION_WAIT_S = 5.0
"""How long a caller waits for a free connection before it hears 503."""
CONNECTIONS_MAX = 12
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


def _load(text: str) -> dict[str, bytes]:
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {
        name: body.strip().encode() for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def sql_text(name: str) -> str:
    """One of the package's SQL files, by its name below sql/."""
    return resources.files("openaibatching.server").joinpath("sql", name).read_text("utf-8")


SCHEMA_FILES = ("schema.sql", "schema_access.sql")
"""What a new database is made of, in this order."""
SESSION = sql_text("session.sql").encode()
QUERY_FILES = (
    "queries.sql", "requests.sql", "collect.sql", "limits.sql", "money.sql", "reports.sql",
    "keys.sql", "access.sql", "page.sql", "requirements.sql",
)  # fmt: skip
QUERIES = {name: query for file in QUERY_FILES for name, query in _load(sql_text(file)).items()}
"""{name: statement} of these files; no name is in two of them (a test says so)."""


_NO_TEXT = (None, "22021", "22P05")
"""SQLSTATEs of a text that cannot be stored: a NUL (None: psycopg found it, before anything was
sent), bytes or a character that the database's encoding does not have."""


async def execute(
    conn: Connection,
    name: str,
    params: dict[str, Any],
    row_factory: AsyncRowFactory[Any] = tuple_row,
) -> AsyncCursor[Any]:
    """Run the named query on `conn` and return its cursor. Results travel in binary.

    Raises UnstorableText for a parameter that PostgreSQL does not take as text.
    """
    cursor = conn.cursor(binary=True, row_factory=row_factory)
    try:
        return await cursor.execute(QUERIES[name], params)
    except UnicodeEncodeError:  # a lone surrogate
        raise UnstorableText from None
    except psycopg.DataError as error:
        if error.sqlstate not in _NO_TEXT:
            raise
        raise UnstorableText from None


async def value(conn: Connection, name: str, params: dict[str, Any]) -> Any:
    """The first column of the named query's first row; None if there is no row."""
    row = await (await execute(conn, name, params)).fetchone()
    return None if row is None else row[0]


def struct_row(kind: type[S]) -> AsyncRowFactory[S]:
    """Rows as Structs whose fields are the columns, in the same order: psycopg's class_row names
    each value of each row, which costs ten times as much."""
    fields = kind.__struct_fields__

    def maker(cursor: AsyncCursor[Any]) -> Callable[[Sequence[Any]], S]:
        columns = tuple(column.name for column in cursor.description or ())
        assert columns in ((), fields), f"{kind.__name__} has other fields than {columns}"
        return lambda values: kind(*values)

    return maker


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


class Database:
    """The pool. `open` before use; `transaction` and `statement` are the ways to a connection."""

    def __init__(self, url: str, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self.url = url
        self.turns = Turns()
        self._pool = AsyncConnectionPool(
            url,
            open=False,
            min_size=2,
            max_size=connections_max,
            timeout=CONNECTION_WAIT_S,
            max_lifetime=1800,
            reconnect_timeout=30,
            configure=_configure,
            kwargs=CONNECTION,
        )

    def renew(self, url: str) -> None:
        """Connect by this URL of the same database from now on."""
        self.url = self._pool.conninfo = url

    async def open(self) -> None:
        """Start the pool. It connects in the background."""
        await self._pool.open()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=1)

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

    async def read(self, query: Callable[[Connection], Awaitable[T]], outage_s: float) -> T:
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
        await _configure(conn)
        async with conn.transaction():
            yield conn


async def _configure(conn: Connection) -> None:
    await conn.execute(SESSION)


# ----- migrations -----


def schema_version() -> int:
    """The version of schema.sql, as its first line says."""
    return int(sql_text("schema.sql").split("\n", 1)[0].removeprefix("-- version: "))


def migrations() -> dict[int, str]:
    """{version: statements} of sql/migrations/NNNN_what.sql: each leads from the version before."""
    folder = resources.files("openaibatching.server").joinpath("sql", "migrations")
    files = [f for f in folder.iterdir() if f.name.endswith(".sql")] if folder.is_dir() else []
    return {int(f.name.split("_")[0]): f.read_text("utf-8") for f in files}


async def migrate(url: str, *, wait_s: float, steps: Mapping[int, str] | None = None) -> None:
    """Bring the database to this program's schema, alone, in one transaction.

    An unreachable database is tried again for `wait_s` seconds. `steps` are the migrations,
    the package's own if left out. Raises ConfigError when the database stays out of reach, is
    too old, or has a newer schema than this program knows.
    """
    conn = await connect(url, wait_s)
    async with conn:
        if conn.info.server_version < 140_000:
            raise ConfigError("POSTGRES_URL: PostgreSQL 14 or newer is needed")
        try:
            async with conn.transaction():
                await conn.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
                # A statement that waits for a lock holds up all that come after it.
                await conn.execute("select set_config('lock_timeout', %s, true)", [LOCK_WAIT])
                await _apply(conn, migrations() if steps is None else steps)
        except psycopg.errors.LockNotAvailable:
            raise ConfigError(
                f"POSTGRES_URL: another session has held one of our tables for {LOCK_WAIT}: "
                "end it (pg_stat_activity shows it), and start again; nothing was changed"
            ) from None
        except psycopg.Error as error:
            raise ConfigError(
                f"POSTGRES_URL: the schema cannot be set up: {first_line(error)}"
            ) from None


async def check_schema(url: str, *, wait_s: float) -> None:
    """See that the database has this program's schema, and change nothing: commands never migrate.

    Waits and raises ConfigError as `migrate` does, also where a migration would be needed.
    """
    conn = await connect(url, wait_s)
    async with conn:
        try:
            version = await _version(conn)
        except psycopg.Error as error:
            raise ConfigError(f"POSTGRES_URL: {first_line(error)}") from None
    known = schema_version()
    if version is None:
        raise ConfigError(
            "POSTGRES_URL: no server has set this database up: start `openaibatching serve` first"
        )
    _refuse_newer(version, known)
    if version < known:
        raise ConfigError(
            f"POSTGRES_URL: its schema has version {version}, this program knows {known}: update "
            "the servers, which migrate it at their start, or use the command of their version"
        )


def _refuse_newer(version: int, known: int) -> None:
    if version > known:
        raise ConfigError(
            f"POSTGRES_URL: its schema has version {version}, this program knows {known}: update it"
        )


async def _version(conn: Connection) -> int | None:
    """The version of the schema; None if there is no schema."""
    found = await (await conn.execute("select to_regclass('openaibatching.meta')")).fetchone()
    if found is None or found[0] is None:
        return None
    row = await (await conn.execute("select version from openaibatching.meta")).fetchone()
    return row[0] if row else 0


async def connect(url: str, wait_s: float) -> Connection:
    """A connection, tried for `wait_s` seconds. Raises ConfigError if there is none then."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            return await AsyncConnection.connect(url, **CONNECTION)
        except psycopg.Error as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise ConfigError(f"POSTGRES_URL: no database there: {first_line(error)}") from None
        await asyncio.sleep(0.25)


def first_line(error: Exception) -> str:
    """What PostgreSQL says, without its hints and its place in the statement."""
    return str(error).strip().split("\n")[0]


async def _apply(conn: Connection, steps: Mapping[int, str]) -> None:
    version = await _version(conn)
    if version is None:
        version = schema_version()
        log.info("schema_created", version=version)
        for name in SCHEMA_FILES:
            await conn.execute(sql_text(name).encode())
    known = max([schema_version(), *steps])
    _refuse_newer(version, known)
    for step in range(version + 1, known + 1):
        log.info("schema_migrated", version=step)
        await conn.execute(steps[step].encode())
        await conn.execute("update openaibatching.meta set version = %s", [step])


# ----- the session that listens -----


async def listen(conn: Connection) -> None:
    """Hear what servers announce."""
    await conn.execute(f"listen {CHANNEL}")  # an identifier cannot be a parameter


class Session:
    """One long connection: hears notifications, and holds this server's number.

    While the session lives, its advisory lock proves that the server does (queries.sql,
    take_batch). When it ends, `on_cut` is called, and a new one is opened; `on_notify` is then
    called with "" because anything may have been missed.
    """

    def __init__(
        self,
        url: str,
        server: int,
        on_notify: Callable[[str], None],
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self._url, self._server, self._on_notify, self._on_cut = url, server, on_notify, on_cut

    def renew(self, url: str) -> None:
        """Connect by this URL of the same database from now on."""
        self._url = url

    async def run(self) -> None:
        """Listen until cancelled, through any outage."""
        wait = 0.1
        while True:
            try:
                async with await AsyncConnection.connect(self._url, **CONNECTION) as conn:
                    await _configure(conn)
                    await execute(conn, "hold_server_number", {"server": self._server})
                    await listen(conn)
                    wait = 0.1
                    self._on_notify("")
                    async for notice in conn.notifies():
                        if not notice.payload.startswith(PROBE):
                            self._on_notify(notice.payload)
            except psycopg.Error as error:
                self._on_cut()
                log.warning("listening_interrupted", detail=first_line(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)
