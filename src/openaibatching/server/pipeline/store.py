"""What the server asks of the database: one typed function a query.

Each takes an open connection (the caller owns the transaction) and speaks in domain/request.py's
words. Functions that change a batch take the server's number and raise LeaseLost when the row is no
longer theirs, or no longer in the state that the transition starts from."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import msgspec
from psycopg.rows import class_row

from openaibatching.server.config.settings import LEASE_S
from openaibatching.server.database.pool import Database
from openaibatching.server.database.statements import (
    QUERIES,
    Connection,
    execute,
    struct_row,
    value,
)
from openaibatching.server.domain.batch import Batch, Lease, Unanswered
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.telemetry.tracing import Traced


@dataclass(frozen=True, slots=True)
class Stuck:
    """A batch that has stood in one state for too long. `since` is when it came there."""

    id: uuid.UUID
    state: str
    model: str
    upstream_id: str | None
    since: datetime
    tries: int


class Sent(msgspec.Struct, frozen=True, gc=False):
    """How often a request was sent, this time included, and an earlier failure's status."""

    id: uuid.UUID
    attempts: int
    status_code: int | None
    tenant: str


@dataclass(frozen=True, slots=True)
class Books:
    """What became of a batch's requests, and the tokens that none of its answers accounts for."""

    completed: int
    failed: int
    requeued: int
    cancelled: int
    unanswered: Tokens


async def stuck_batches(
    conn: Connection, now: datetime | None, tenant: str | None = None
) -> list[Stuck]:
    """Batches, of all tenants or of one, that have stood in one state for longer than anything
    explains."""
    params = {"now": now, "tenant": tenant}
    return await (await execute(conn, "stuck_batches", params, class_row(Stuck))).fetchall()


async def read_traced(conn: Connection, ids: Sequence[uuid.UUID]) -> list[Traced]:
    """Those of `ids` that have finished and that a caller traces."""
    cur = await execute(conn, "read_traced", {"ids": list(ids)}, class_row(Traced))
    return await cur.fetchall()


async def take_batch(
    conn: Connection,
    server: int,
    states: Sequence[str],
    held: Sequence[uuid.UUID],
    now: datetime | None,
) -> Batch | None:
    """Lease the batch in one of `states` whose turn came first, if there is one.

    `held` are the batches that this server works on already.
    """
    params = {
        "server": server,
        "states": list(states),
        "held": list(held),
        "duration": timedelta(seconds=LEASE_S),
        "now": now,
    }
    cur = await execute(conn, "take_batch", params, class_row(Batch))
    return await cur.fetchone()


async def due_states(conn: Connection, now: datetime | None) -> list[str]:
    """The states in which a batch waits for somebody to take it."""
    return [row[0] for row in await (await execute(conn, "due_states", {"now": now})).fetchall()]


async def renew_leases(conn: Connection, server: int, leases: Sequence[Lease]) -> set[Lease]:
    """Make these leases last LEASE_S longer; those that have not gone to another server."""
    params = {
        "server": server,
        "ids": [id_ for id_, _ in leases],
        "leases": [number for _, number in leases],
        "duration": timedelta(seconds=LEASE_S),
    }
    return set(await (await execute(conn, "renew_leases", params)).fetchall())


async def wake_batch(conn: Connection, upstream_id: str) -> None:
    """Let the watcher look at this batch now."""
    await execute(conn, "wake_batch", {"upstream_id": upstream_id})


async def read_bodies(
    database: Database, batch: Batch, rows_at_once: int
) -> AsyncIterator[tuple[uuid.UUID, bytes]]:
    """(id, body) of the batch's requests, in the order of its lines, through a server-side
    cursor: memory holds `rows_at_once` of them."""
    async with database.transaction() as conn, conn.cursor(name="bodies") as cursor:
        cursor.itersize = rows_at_once
        await cursor.execute(QUERIES["read_bodies"], {"batch_id": batch.id}, binary=True)
        async for row in cursor:
            yield row


async def read_input_file(conn: Connection, batch: Batch) -> tuple[bool, str | None]:
    """(whether the batch is past its upload, its input file if that is still at OpenAI)."""
    cur = await execute(conn, "read_input_file", {"id": batch.id})
    row = await cur.fetchone()
    return row is not None, row[0] if row else None


async def read_unanswered(conn: Connection, batch: Batch) -> list[Unanswered]:
    """The batch's requests without a result, in the order of the file's lines."""
    cur = await execute(conn, "read_unanswered", {"batch_id": batch.id}, class_row(Unanswered))
    return await cur.fetchall()


async def read_attempts(
    conn: Connection, batch: Batch, ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, Sent]:
    """Those of `ids` that the batch still owes an answer."""
    params = {"batch_id": batch.id, "ids": list(ids)}
    cur = await execute(conn, "read_attempts", params, struct_row(Sent))
    return {sent.id: sent for sent in await cur.fetchall()}


async def note_event(conn: Connection, batch: Batch, note: str) -> None:
    """Write something unexpected into the batch's history."""
    await execute(conn, "note_event", {"batch_id": batch.id, "note": note})


async def forget(conn: Connection, ttl_days: float, limit: int, now: datetime | None) -> int:
    """Delete up to `limit` requests, and batches, that ended `ttl_days` ago; how many requests."""
    params = {"ttl": timedelta(days=ttl_days), "limit": limit, "now": now}
    gone = cast("int", await value(conn, "forget_requests", params))
    await execute(conn, "forget_batches", params)
    await execute(conn, "forget_limits", {"now": now})
    return gone


async def fold_tally(conn: Connection) -> None:
    """Add up the deltas of the counts and of the reserves."""
    await execute(conn, "fold_tally", {})
    await execute(conn, "fold_reserve", {})
