"""What the service needs of its database beyond an answer, asked before it is relied on.

A pooler in transaction mode, an encoding that is not UTF-8 or a right that is missing would let a
server start, and then answer 500 or stand still.
"""

from __future__ import annotations

import secrets
from ipaddress import ip_address

import psycopg
from psycopg import AsyncConnection

from openaibatching.server.database import listener, migrations, statements
from openaibatching.server.database.listener import PROBE
from openaibatching.server.database.pool import CONNECTION
from openaibatching.server.database.statements import Connection
from openaibatching.server.errors import ConfigError, DatabaseUnavailable
from openaibatching.server.telemetry import logs

log = logs.get()

HEARD_S = 5.0
"""A notification takes milliseconds; one that has not come after this does not come."""


async def prepare(url: str, *, wait_s: float) -> None:
    """Bring the database to this program's schema, and ask it for all that is needed.

    An unreachable database is tried again for `wait_s` seconds. Raises ConfigError with one line
    that names what is missing.
    """
    async with await migrations.connect(url, wait_s) as conn:
        refuse(await _wrong_basics(conn))
        info = conn.info
        if is_exposed(info.host, info.hostaddr, encrypted=conn.pgconn.ssl_in_use):
            log.warning("database_not_encrypted", host=info.host)
    await migrations.migrate(url, wait_s=wait_s)
    try:
        refuse(await missing(url))
    except psycopg.Error as error:
        raise ConfigError(f"POSTGRES_URL: {migrations.first_line(error)}") from None


def is_exposed(host: str, address: str, *, encrypted: bool) -> bool:
    """Whether prompts, responses and the password pass a network as plain text. A folder is the
    host of a Unix socket; `address` is the IP address that was connected to, "" for a socket."""
    if encrypted or not address or host.startswith(("/", "@")):
        return False
    return not ip_address(address.partition("%")[0]).is_loopback


def refuse(why: str | None) -> None:
    """Raises ConfigError if anything is missing."""
    if why is not None:
        raise ConfigError(f"POSTGRES_URL: {why}")


async def missing(url: str) -> str | None:
    """What a database with our schema lacks, in words. Raises psycopg.Error if it is away."""
    async with (
        await AsyncConnection.connect(url, **CONNECTION) as one,
        await AsyncConnection.connect(url, **CONNECTION) as other,
    ):
        why = await _wrong_basics(other)
        if why is not None:
            return why
        relation = await statements.value(other, "find_missing_right", {})
        if relation is not None:
            return f"the user lacks rights on openaibatching.{relation}"
        if not await _hears(one, other):
            return (
                "a LISTEN does not outlast a transaction, as behind a pooler in transaction mode "
                "(PgBouncer): connect directly, or by a pool in session mode"
            )
        number = 1 + secrets.randbelow(2**31 - 1)
        await statements.execute(one, "hold_server_number", {"server": number})
        if not await statements.value(other, "is_number_seen", {"server": number}):
            return "advisory locks of other sessions are not visible in pg_locks"
    return None


async def _wrong_basics(conn: Connection) -> str | None:
    row = await (await statements.execute(conn, "read_database_basics", {})).fetchone()
    if row is None:
        raise DatabaseUnavailable
    encoding, read_only, may_create = row
    if encoding != "UTF8":
        return f"the database's encoding is {encoding}: create it with encoding 'UTF8'"
    if read_only:
        return "the database is read-only (a standby, or default_transaction_read_only is on)"
    if not may_create:
        return "the user may not make the schema: grant create on database … to it"
    return None


async def _hears(listening: Connection, other: Connection) -> bool:
    payload = f"{PROBE}{secrets.token_hex(8)}"
    await listener.listen(listening)
    await statements.execute(other, "announce_probe", {"payload": payload})
    async for notice in listening.notifies(timeout=HEARD_S):
        if notice.payload == payload:
            return True
    return False
