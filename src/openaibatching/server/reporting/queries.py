"""What is asked about all of it: one typed function a query of reports.sql."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import cast

from psycopg.rows import class_row

from openaibatching.server.database.statements import Connection, execute, value
from openaibatching.server.domain.request import Request
from openaibatching.server.domain.view import View
from openaibatching.server.reporting.forecast import Past, UnderWay

GROUPS_MAX = 7000
"""Endpoints and models of a tenant that are looked at: more than TENANT_MODELS_MAX lets in."""


async def read_tally(conn: Connection, tenant: str | None = None) -> dict[tuple[str, str], int]:
    """{("request" or "batch", state): how many there are, of all tenants or of one}."""
    rows = await (await execute(conn, "read_tally", {"tenant": tenant})).fetchall()
    return {(what, state): n for what, state, n in rows}


async def token_limits(conn: Connection) -> list[tuple[str, int | None, int | None]]:
    """(model, its enqueued-token limit as OpenAI told it, what is kept below that for now)."""
    return await (await execute(conn, "token_limits", {})).fetchall()


async def oldest_queued_s(conn: Connection, tenant: str | None = None) -> float:
    """For how many seconds the oldest queued request, of all or of a tenant, has waited; 0 if there
    is none."""
    return cast("float", await value(conn, "oldest_queued", {"tenant": tenant}))


async def known_tenants(conn: Connection) -> list[str]:
    """Every tenant that has requests or has spent anything."""
    return [row[0] for row in await (await execute(conn, "known_tenants", {})).fetchall()]


async def count_requests(conn: Connection, view: View) -> dict[str, int]:
    """{state: how many requests there are in it}."""
    params = {"tenants": list(view.tenants)}
    return dict(await (await execute(conn, "count_requests", params)).fetchall())


@dataclass(frozen=True, slots=True)
class QueueRow:
    """What a tenant has queued of one endpoint and model, and what may hold it up.

    `queued_at` is when its oldest request came; `enqueued` are the model's tokens at OpenAI, of
    all tenants, `token_limit_told` what it takes at once by its own word, if that is known, and
    `token_limit` what is kept: less if `guessed`, since OpenAI has refused batches below it.
    """

    tenant: str
    endpoint: str
    model: str
    queued_at: datetime
    flushed: bool
    requests: int
    held_until: datetime | None
    held_for: str | None
    token_limit: int | None
    token_limit_told: int | None
    guessed: bool
    enqueued: int


async def read_queues(conn: Connection, view: View, most: int, limit: int) -> list[QueueRow]:
    """Their queues, the one with the oldest request first; counted to `most`."""
    tenants = {"tenants": list(view.tenants), "groups": GROUPS_MAX}
    params = tenants | {"most": most, "limit": limit}
    return await (await execute(conn, "read_queues", params, class_row(QueueRow))).fetchall()


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as one of its tenants sees it. `seq` is its place among that tenant's batches."""

    tenant: str
    id: uuid.UUID
    state: str
    endpoint: str
    model: str
    requests: int
    own_requests: int
    own_completed: int
    own_failed: int
    own_requeued: int
    own_cancelled: int
    upstream_id: str | None
    upstream_status: str | None
    upstream_completed: int
    upstream_failed: int
    completed: int
    failed: int
    requeued: int
    cancelled: int
    cancel_wished_at: datetime | None
    tries: int
    created_at: datetime
    attempted_at: datetime | None
    submitted_at: datetime | None
    ended_at: datetime | None
    closed_at: datetime | None
    next_at: datetime
    trouble: str | None
    troubled_at: datetime | None
    stuck: bool
    seq: int


async def open_batches(conn: Connection, view: View, limit: int) -> list[BatchRow]:
    """Their batches that are not closed, the oldest first."""
    params = {"tenant": view.of_batches, "limit": limit}
    return await (await execute(conn, "open_batches", params, class_row(BatchRow))).fetchall()


async def list_batches(
    conn: Connection, view: View, before_seq: int | None, limit: int
) -> list[BatchRow]:
    """Their batches, newest first."""
    params = {"tenant": view.of_batches, "before_seq": before_seq, "limit": limit}
    return await (await execute(conn, "list_batches", params, class_row(BatchRow))).fetchall()


async def find_batch(
    conn: Connection, view: View, id_: uuid.UUID | None, upstream_id: str
) -> BatchRow | None:
    """Their batch with this id of ours, or of OpenAI's."""
    params = {"tenant": view.of_batches, "id": id_, "upstream_id": upstream_id}
    return await (await execute(conn, "find_batch", params, class_row(BatchRow))).fetchone()


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One reason why requests failed for good. `example` is the last of them."""

    status_code: int
    code: str
    endpoint: str
    model: str
    requests: int
    example: uuid.UUID
    last_hour: datetime


async def list_failures(
    conn: Connection, view: View, since: timedelta, limit: int
) -> list[FailureRow]:
    """Their reasons, the most frequent first."""
    params = {"tenants": list(view.tenants), "since": since, "limit": limit}
    return await (await execute(conn, "list_failures", params, class_row(FailureRow))).fetchall()


async def answers_by_hour(
    conn: Connection, view: View, since: timedelta
) -> list[tuple[datetime, int, int]]:
    """(hour, answers, failures), the oldest hour first, those without any left out."""
    params = {"tenants": list(view.tenants), "since": since}
    return await (await execute(conn, "answers_by_hour", params)).fetchall()


@dataclass(frozen=True, slots=True)
class CostRow:
    """What a tenant's answers cost, in USD; what is not grouped by is None."""

    day: date | None
    endpoint: str | None
    model: str | None
    tenant: str | None
    answers: int
    unpriced: int
    incomplete: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    realtime: Decimal
    paid: Decimal
    lost: Decimal


async def sum_costs(
    conn: Connection, view: View, days: int, by: Collection[str] = ()
) -> list[CostRow]:
    """Their costs of the last `days` days of UTC, by those of day, endpoint and model."""
    params = {
        "tenants": list(view.tenants),
        "days": days,
        "by_day": "day" in by,
        "by_endpoint": "endpoint" in by,
        "by_model": "model" in by,
        "by_tenant": "tenant" in by,
    }
    return await (await execute(conn, "sum_costs", params, class_row(CostRow))).fetchall()


@dataclass(frozen=True, slots=True)
class EventRow:
    """One step of a request, or of a batch that it was in."""

    at: datetime
    of: str
    old_state: str | None
    new_state: str | None
    batch_id: uuid.UUID | None
    upstream_id: str | None
    note: str | None


async def list_events(conn: Connection, request: Request, limit: int) -> list[EventRow]:
    """The request's story, in its order."""
    params = {"tenant": request.tenant, "seq": request.seq, "limit": limit}
    return await (await execute(conn, "list_events", params, class_row(EventRow))).fetchall()


async def wish_flush(conn: Connection, tenant: str) -> None:
    """Let what the tenant has queued wait for no more requests."""
    await execute(conn, "wish_flush", {"tenant": tenant})


@dataclass(frozen=True, slots=True)
class UnreadRow:
    """Answers of a tenant that nobody has asked for. `paid` is in USD, `since` a whole hour."""

    answers: int
    paid: Decimal
    since: datetime


async def read_unread(conn: Connection, view: View, now: datetime | None) -> UnreadRow | None:
    """What finished an hour ago or earlier, with no answer given to its tenant since; or None."""
    params = {"tenants": list(view.tenants), "now": now}
    return await (await execute(conn, "read_unread", params, class_row(UnreadRow))).fetchone()


async def read_history(conn: Connection, each: int) -> list[Past]:
    """The last `each` completed batches of each model, the newest first."""
    cur = await execute(conn, "read_history", {"each": each}, class_row(Past))
    return await cur.fetchall()


async def read_under_way(conn: Connection) -> list[UnderWay]:
    """What OpenAI works on."""
    return await (await execute(conn, "read_under_way", {}, class_row(UnderWay))).fetchall()


async def held_models(conn: Connection) -> set[str]:
    """Models of which no batch is made at the moment, for whatever reason."""
    return {row[0] for row in await (await execute(conn, "held_models", {})).fetchall()}
