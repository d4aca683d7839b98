"""What the server asks of the database: one typed function a query.

Each takes an open connection (the caller owns the transaction) and speaks in model.py's words.
Functions that change a batch take the server's number and raise LeaseLost when the row is no
longer theirs, or no longer in the state that the transition starts from.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar, cast

from psycopg.rows import class_row

from openaibatching.server.config import LEASE_S
from openaibatching.server.db import QUERIES, Connection, Database, execute, struct_row, value
from openaibatching.server.errors import LeaseLost
from openaibatching.server.model import (
    NO_TOKENS,
    REQUEST_STATES,
    Batch,
    Books,
    Call,
    Lease,
    Request,
    Result,
    Sent,
    Tokens,
    Unanswered,
    token_columns,
)
from openaibatching.server.refusal import halves
from openaibatching.server.view import View

T = TypeVar("T")

ANSWER_BYTES_INLINE = 65_536
ROWS_AT_ONCE = 2000
"""What is written for the database, or read from it, in one go, is time that all callers wait."""


def _parts(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), ROWS_AT_ONCE):
        yield list(items[start : start + ROWS_AT_ONCE])


# ----- the door -----


async def accept_requests(conn: Connection, calls: Sequence[Call]) -> list[Request]:
    """Store the calls that are not there yet; the requests of all of them, in any order.

    The calls' ids must differ. Two kinds come short: one that another server stores at this
    moment is missing, and an answer above ANSWER_BYTES_INLINE is None.
    """
    params = {
        "ids": [c.id for c in calls],
        "body_ids": [c.body_id for c in calls],
        "tenants": [c.tenant for c in calls],
        "endpoints": [c.endpoint for c in calls],
        "models": [c.model for c in calls],
        "line_bytes": [c.line_bytes for c in calls],
        "tokens": [c.tokens for c in calls],
        "inputs": [c.inputs for c in calls],
        "bodies": [c.body for c in calls],
        "estimates": [c.estimate for c in calls],
        "usd_mosts": [c.usd_most for c in calls],
        "traceparents": [c.traceparent for c in calls],
        "answer_bytes_max": ANSWER_BYTES_INLINE,
    }
    cur = await execute(conn, "accept_requests", params, struct_row(Request))
    return await cur.fetchall()


async def read_requests(conn: Connection, ids: Sequence[uuid.UUID]) -> list[Request]:
    """The requests with these ids, in any order; of a finished one also the answer, unless it is
    above ANSWER_BYTES_INLINE."""
    params = {"ids": list(ids), "answer_bytes_max": ANSWER_BYTES_INLINE}
    cur = await execute(conn, "read_requests", params, struct_row(Request))
    return await cur.fetchall()


async def read_request(conn: Connection, id_: uuid.UUID) -> Request | None:
    """The request with this id, with its answer if it has finished."""
    params = {"ids": [id_], "answer_bytes_max": None}
    cur = await execute(conn, "read_requests", params, struct_row(Request))
    return await cur.fetchone()


async def which_finished(conn: Connection, ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Those of `ids` whose request has finished."""
    found: list[uuid.UUID] = []
    for part in _parts(ids):
        cur = await execute(conn, "which_finished", {"ids": part})
        found += [row[0] for row in await cur.fetchall()]
    return found


async def read_finished_requests(conn: Connection, ids: Sequence[uuid.UUID]) -> list[Request]:
    """Those of `ids` that have finished, with their answers."""
    cur = await execute(conn, "read_finished_requests", {"ids": list(ids)}, struct_row(Request))
    return await cur.fetchall()


async def find_by_upstream_id(conn: Connection, view: View, upstream_id: str) -> uuid.UUID | None:
    """The request whose answer has this id of OpenAI's."""
    params = {"tenants": list(view.tenants), "upstream_id": upstream_id}
    return cast("uuid.UUID | None", await value(conn, "find_by_upstream_id", params))


async def list_requests(
    conn: Connection, view: View, state: str | None, before_seq: int | None, limit: int
) -> list[Request]:
    """The requests of a view's tenants, newest first, without answers."""
    params = {
        "tenants": list(view.tenants),
        "states": [state] if state else list(REQUEST_STATES),
        "before_seq": before_seq,
        "limit": limit,
    }
    cur = await execute(conn, "list_requests", params, struct_row(Request))
    return await cur.fetchall()


async def cancel_request(conn: Connection, id_: uuid.UUID) -> bool:
    """Cancel it if it is still queued."""
    return await value(conn, "cancel_request", {"id": id_}) is not None


async def read_body(conn: Connection, request: Request) -> bytes | None:
    """The body as it is sent; None if the request was deleted."""
    return cast("bytes | None", await value(conn, "read_body", {"seq": request.seq}))


async def retry_request(
    conn: Connection,
    id_: uuid.UUID,
    *,
    incomplete: bool,
    estimate: Decimal | None = None,
    usd_most: Decimal | None = None,
) -> bool:
    """Queue it again if it failed or was cancelled, or was answered by halves (`incomplete`).

    `estimate` and `usd_most` are USD that it may cost, and costs at most, this time.
    """
    params = {"id": id_, "incomplete": incomplete, "estimate": estimate, "usd_most": usd_most}
    return await value(conn, "retry_request", params) is not None


async def delete_request(conn: Connection, id_: uuid.UUID) -> bool:
    """Forget it, with body and answer, if it has finished."""
    return await value(conn, "delete_request", {"id": id_}) is not None


# ----- form -----


@dataclass(frozen=True, slots=True)
class Group:
    """An (endpoint, model) with queued requests, and whose they are.

    `queued_at` is that of the oldest one; `flushed`: it shall not wait for others; `lone_at`:
    since when a request of the model may go that has to go alone; `probing`: one request is tried
    at a time. What is estimated of it counts `token_factor` times towards `token_limit`.
    """

    endpoint: str
    model: str
    tenants: list[str]
    queued_at: datetime
    flushed: bool
    probing: bool
    token_limit: int | None
    token_factor: float
    lone_at: datetime | None
    now: datetime


async def lock_model(conn: Connection, model: str) -> bool:
    """Whether this transaction may form batches of the model; false while another one does."""
    return bool(await value(conn, "lock_model", {"model": model}))


async def enqueued_tokens(conn: Connection, model: str) -> int:
    """Estimated input tokens of the model's batches that OpenAI has, or is about to have."""
    return cast("int", await value(conn, "enqueued_tokens", {"model": model}))


async def lock_creates(conn: Connection) -> None:
    """Until the transaction ends, no other server counts creations."""
    await execute(conn, "lock_creates", {})


async def creates_last_hour(conn: Connection, now: datetime | None) -> int:
    """How many batch creations were sent in the last hour, by all servers."""
    return cast("int", await value(conn, "creates_last_hour", {"now": now}))


async def claim(conn: Connection, group: Group, seqs: Sequence[int]) -> int:
    """Make a batch of these requests, less those that were cancelled meanwhile; how many."""
    batch_id = uuid.uuid4()
    taken: list[_Taken] = []
    for part in _parts(seqs):
        params = {"batch_id": batch_id, "seqs": part}
        taken += await (await execute(conn, "claim_requests", params)).fetchall()
    if taken:
        await _insert_batch(conn, batch_id, None, group, taken)
    return sum(requests for _, requests, *_ in taken)


_Taken = tuple[str, int, int, int, Decimal]
"""(tenant, requests, line bytes, tokens, USD at most): what a batch took of a tenant's."""


async def _insert_batch(
    conn: Connection,
    id_: uuid.UUID,
    parent_id: uuid.UUID | None,
    kind: Group | Batch,
    taken: Sequence[_Taken],
) -> None:
    """Add a batch of this endpoint and model, with what it took of each tenant."""
    tenants, requests, bytes_, tokens, usd_mosts = zip(*taken, strict=True)
    params = {
        "id": id_,
        "parent_id": parent_id,
        "endpoint": kind.endpoint,
        "model": kind.model,
        "requests": sum(requests),
        "bytes": sum(bytes_),
        "tokens": sum(tokens),
    }
    await execute(conn, "insert_batch", params)
    whose = {"tenants": list(tenants), "requests": list(requests), "usd_mosts": list(usd_mosts)}
    await execute(conn, "insert_shares", {"batch_id": id_, **whose})


# ----- leases -----


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


async def release_batch(
    conn: Connection,
    server: int,
    batch: Batch,
    wait_s: float,
    now: datetime | None,
    trouble: str | None = None,
) -> None:
    """Give the batch back; its next turn is in `wait_s` seconds. Raises LeaseLost.

    `trouble`: why it failed this time, for people to read; None if it did not.
    """
    params = {
        "server": server,
        "id": batch.id,
        "lease": batch.leases,
        "wait": timedelta(seconds=wait_s),
        "trouble": trouble,
        "now": now,
    }
    if await value(conn, "release_batch", params) is None:
        raise LeaseLost(f"batch {batch.id}: it was taken before it was given back")


async def wake_batch(conn: Connection, upstream_id: str) -> None:
    """Let the watcher look at this batch now."""
    await execute(conn, "wake_batch", {"upstream_id": upstream_id})


async def move_batch(
    conn: Connection, transition: str, server: int, batch: Batch, **values: Any
) -> None:
    """Run one of the named batch transitions. Raises LeaseLost if it found no row."""
    params = {"server": server, "id": batch.id, "lease": batch.leases, **values}
    if await value(conn, transition, params) is None:
        raise LeaseLost(f"batch {batch.id}: {transition} found it in other hands")


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


# ----- collect -----


async def store_results(
    conn: Connection,
    server: int,
    batch: Batch,
    results: Sequence[Result],
    now: datetime | None,
) -> None:
    """Finish or requeue requests of the batch, and count them in its books.

    Raises LeaseLost, and then nothing of it is to be committed.
    """
    params = {
        "batch_id": batch.id,
        "ids": [r.id for r in results],
        "states": [r.state for r in results],
        "status_codes": [r.status_code for r in results],
        "upstream_ids": [r.upstream_id for r in results],
        "answers": [r.answer for r in results],
        "realtimes": [r.receipt and r.receipt.realtime for r in results],
        "paids": [r.receipt and r.receipt.paid for r in results],
        "incompletes": [r.receipt and r.receipt.incomplete for r in results],
        "refunds": [int(r.refund) for r in results],
        "waits": [timedelta(seconds=r.wait_s) for r in results],
        "now": now,
    }
    rows = await (await execute(conn, "store_results", params)).fetchall()
    await _count(conn, server, batch, dict(rows), sum((r.tokens for r in results), NO_TOKENS))


async def _count(
    conn: Connection, server: int, batch: Batch, moved: dict[str, int], tokens: Tokens
) -> None:
    await move_batch(
        conn,
        "count_results",
        server,
        batch,
        completed=moved.get("completed", 0),
        failed=moved.get("failed", 0),
        requeued=moved.get("queued", 0),
        cancelled=moved.get("cancelled", 0),
        **token_columns(tokens),
    )


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


async def finish_collect(
    conn: Connection, server: int, batch: Batch, now: datetime | None
) -> Books:
    """Every request of the batch has its result. Raises LeaseLost."""
    params = {"server": server, "id": batch.id, "lease": batch.leases, "now": now}
    row = await (await execute(conn, "finish_collect", params)).fetchone()
    if row is None:
        raise LeaseLost(f"batch {batch.id}: finish_collect found it in other hands")
    completed, failed, requeued, cancelled, *tokens = row
    return Books(completed, failed, requeued, cancelled, Tokens(*tokens))


async def split_batch(
    conn: Connection, server: int, batch: Batch, owed: Sequence[Unanswered]
) -> None:
    """Two new batches, each with a half of what the refused one owes. Raises LeaseLost."""
    for half in halves(owed):
        to_batch_id = uuid.uuid4()
        params = {
            "to_batch_id": to_batch_id,
            "batch_id": batch.id,
            "seqs": [request.seq for request in half],
        }
        taken = await (await execute(conn, "move_requests", params)).fetchall()
        await _insert_batch(conn, to_batch_id, batch.id, batch, taken)
    await _count(conn, server, batch, {"queued": len(owed)}, NO_TOKENS)


async def note_event(conn: Connection, batch: Batch, note: str) -> None:
    """Write something unexpected into the batch's history."""
    await execute(conn, "note_event", {"batch_id": batch.id, "note": note})


# ----- housekeeping -----


async def forget(conn: Connection, ttl_days: float, limit: int, now: datetime | None) -> int:
    """Delete up to `limit` requests, and batches, that ended `ttl_days` ago; how many requests."""
    params = {"ttl": timedelta(days=ttl_days), "limit": limit, "now": now}
    gone = (await execute(conn, "forget_requests", params)).rowcount
    await execute(conn, "forget_batches", params)
    await execute(conn, "forget_limits", {"now": now})
    return gone


async def fold_tally(conn: Connection) -> None:
    """Add up the deltas of the counts and of the reserves."""
    await execute(conn, "fold_tally", {})
    await execute(conn, "fold_reserve", {})
