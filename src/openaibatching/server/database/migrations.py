"""The schema: made in a new database, brought up to date, or only checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import resources

import psycopg
from psycopg import AsyncConnection

from openaibatching.server.database.pool import CONNECTION
from openaibatching.server.database.statements import SCHEMA_FILES, Connection, sql_text
from openaibatching.server.errors import ConfigError
from openaibatching.server.telemetry import logs

log = logs.get()
LOCK_WAIT = "5s"
"""How long a migration waits for a table that somebody uses: meanwhile all others wait, too."""
MIGRATION_LOCK = 9487_0001


def schema_version() -> int:
    """The version of schema.sql, as its first line says."""
    return int(sql_text("schema.sql").split("\n", 1)[0].removeprefix("-- version: "))


def migrations() -> dict[int, str]:
    """{version: statements} of sql/migrations/NNNN_what.sql: each leads from the version before."""
    folder = resources.files("openaibatching.server.database").joinpath("sql", "migrations")
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
