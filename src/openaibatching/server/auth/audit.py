"""The audit: who did what, written in the transaction of the deed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from openaibatching.server.database.statements import Connection, execute

SIGNED_IN, SIGNED_OUT, WRONG_KEY = "signed_in", "signed_out", "wrong_key"
KEY_CREATED, KEY_ROTATED, KEY_REVOKED = "key_created", "key_rotated", "key_revoked"
DELETED, CANCELLED, RETRIED = "deleted", "cancelled", "retried"
BATCH_CANCELLED, FLUSHED = "batch_cancelled", "flushed"
ACTIONS = (
    SIGNED_IN, SIGNED_OUT, WRONG_KEY, KEY_CREATED, KEY_ROTATED, KEY_REVOKED, DELETED, CANCELLED,
    RETRIED, BATCH_CANCELLED, FLUSHED,
)  # fmt: skip

FORGET_AT_ONCE = 2000
ALONE_MAX, SEVERAL = 20, "several"
LOCAL = "local"
"""The address of a command that works on the database."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who calls: the tenant and the name of the key, the address, and the id of the request."""

    tenant: str
    key_name: str
    address: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit. `n`: how often, or how many requests."""

    action: str
    tenant: str | None = None
    key_name: str | None = None
    address: str | None = None
    request_id: str | None = None
    target: str | None = None
    n: int = 1


@dataclass(frozen=True, slots=True)
class Written:
    """A line of the audit as it is kept."""

    at: datetime
    action: str
    tenant: str | None
    key_name: str | None
    address: str | None
    request_id: str | None
    target: str | None
    n: int


async def note(
    conn: Connection, action: str, by: Actor, target: str | None = None, n: int = 1
) -> None:
    """Write that somebody did it. What one key does more than 20 times in a minute is added to its
    last line, so that no tenant fills the table."""
    params = {"action": action, "tenant": by.tenant, "key_name": by.key_name}
    params |= {"address": by.address, "request_id": by.request_id}
    more: dict[str, Any] = {"target": target, "n": n, "most": ALONE_MAX, "several": SEVERAL}
    await execute(conn, "note_audit", params | more)


async def write(conn: Connection, entries: Sequence[Entry]) -> None:
    """Write these lines."""
    params = {
        "actions": [entry.action for entry in entries],
        "tenants": [entry.tenant for entry in entries],
        "key_names": [entry.key_name for entry in entries],
        "addresses": [entry.address for entry in entries],
        "request_ids": [entry.request_id for entry in entries],
        "targets": [entry.target for entry in entries],
        "ns": [entry.n for entry in entries],
    }
    await execute(conn, "write_audit", params)


async def read(
    conn: Connection, since_s: float, tenant: str | None, action: str | None, limit: int
) -> list[Written]:
    """The lines of the last `since_s` seconds, newest first."""
    params = {"since_s": since_s, "tenant": tenant, "action": action, "limit": limit}
    return await (await execute(conn, "read_audit", params, class_row(Written))).fetchall()


async def forget(conn: Connection) -> None:
    """Delete sessions that have ended, and some of the lines that are older than 90 days."""
    await execute(conn, "forget_sessions", {})
    await execute(conn, "forget_audit", {"limit": FORGET_AT_ONCE})
