"""What is queued, and whose batches come next: one typed function a query."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
from psycopg.rows import class_row

from openaibatching.server.database.statements import (
    ROWS_AT_ONCE,
    Connection,
    execute,
    parts,
    struct_row,
    value,
)
from openaibatching.server.domain.batch import Batch
from openaibatching.server.pipeline.creations import Creations, Used


class Queued(msgspec.Struct, frozen=True, gc=False):
    """What forming a batch needs to know of a queued request. There are 50,000 at a time."""

    seq: int
    line_bytes: int
    tokens: int
    inputs: int
    tenant: str = ""
    usd: float | None = None
    """What it may cost by its estimate; None where it was accepted without a budget."""
    usd_most: float | None = None
    """And more cannot be; None where that is unknown."""


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


async def claim(conn: Connection, group: Group, chosen: Sequence[Queued]) -> int:
    """Make a batch of these requests, less those that were cancelled meanwhile; how many."""
    batch_id = uuid.uuid4()
    taken: list[_Taken] = []
    for part in parts(chosen):
        params = {
            "batch_id": batch_id,
            "tenants": [request.tenant for request in part],
            "seqs": [request.seq for request in part],
        }
        taken += await (await execute(conn, "claim_requests", params)).fetchall()
    if taken:
        await insert_batch(conn, batch_id, None, group, taken)
    return sum(requests for _, requests, *_ in taken)


_Taken = tuple[str, int, int, int, Decimal]
"""(tenant, requests, line bytes, tokens, USD at most): what a batch took of a tenant's."""


async def insert_batch(
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


GROUPS_AT_ONCE = 200


async def list_groups(
    conn: Connection,
    held_back: Collection[str],
    creations: Creations,
    linger: timedelta,
    now: datetime | None,
) -> list[Group]:
    """The next groups that are not held, those that have waited for `linger` first; without the
    requests of the tenants `held_back` by their budgets."""
    params = {
        "held_back": list(held_back),
        "waiting": creations.waiting,
        "unhurried": creations.unhurried,
        "tenants": list(creations.used),
        "used": list(creations.used.values()),
        "linger": linger,
        "limit": GROUPS_AT_ONCE,
        "now": now,
    }
    cur = await execute(conn, "list_groups", params, class_row(Group))
    return await cur.fetchall()


async def read_creations(conn: Connection, now: datetime | None) -> Creations:
    """What each tenant has used of the creations of the last hour."""
    cur = await execute(conn, "read_creations", {"now": now}, class_row(Used))
    return Creations.of(await cur.fetchall())


@dataclass(frozen=True, slots=True)
class Measure:
    """What one batch could take of a group's queue."""

    requests: int
    bytes: int
    inputs: int
    tokens: int


async def measure_queue(
    conn: Connection, group: Group, limit: int, now: datetime | None
) -> Measure:
    """The size of the group's queue, or of `limit` requests of it."""
    params = _of(group, limit, now)
    row = await (await execute(conn, "measure_queue", params)).fetchone()
    assert row is not None
    return Measure(*row)


def _of(group: Group, limit: int, now: datetime | None) -> dict[str, Any]:
    return {
        "endpoint": group.endpoint,
        "model": group.model,
        "tenants": group.tenants,
        "limit": limit,
        "now": now,
    }


async def read_queue(
    conn: Connection, group: Group, limit: int, now: datetime | None
) -> list[Queued]:
    """The group's next `limit` requests: each tenant's oldest, in fair turns."""
    params = _of(group, limit, now)
    cur = await execute(conn, "read_queue", params, struct_row(Queued))
    queue: list[Queued] = []
    while part := await cur.fetchmany(ROWS_AT_ONCE):
        queue += part
        await asyncio.sleep(0)
    return queue
