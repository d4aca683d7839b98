"""What the doors ask of the database about requests: one typed function a query."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast

from openaibatching.server.database.statements import Connection, execute, parts, struct_row, value
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import Call, Request
from openaibatching.server.domain.states import REQUEST_STATES
from openaibatching.server.domain.view import View


async def note_answers_read(
    conn: Connection, tenants: Collection[str], now: datetime | None
) -> None:
    """Programs of these tenants got finished answers at this time."""
    await execute(conn, "note_answers_read", {"tenants": list(tenants), "now": now})


async def queued_models(conn: Connection, tenant: str, most: int) -> list[str]:
    """The models of which the tenant has something queued, at most so many of them."""
    params = {"tenant": tenant, "most": most, "endpoints": len(ENDPOINTS)}
    return [row[0] for row in await (await execute(conn, "queued_models", params)).fetchall()]


async def count_queued(conn: Connection, tenant: str) -> int:
    """How many requests the tenant has queued."""
    return cast("int", await value(conn, "count_queued", {"tenant": tenant}))


ANSWER_BYTES_INLINE = 65_536


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


async def read_requests(
    conn: Connection, tenants: Sequence[str], ids: Sequence[uuid.UUID]
) -> list[Request]:
    """The requests of these tenants with these ids, in any order; of a finished one also
    the answer, unless it is above ANSWER_BYTES_INLINE."""
    params = {"tenants": list(tenants), "ids": list(ids), "answer_bytes_max": ANSWER_BYTES_INLINE}
    cur = await execute(conn, "read_requests", params, struct_row(Request))
    return await cur.fetchall()


async def read_request(conn: Connection, tenants: Sequence[str], id_: uuid.UUID) -> Request | None:
    """The request of one of these tenants with this id, with its answer if it has finished."""
    params = {"tenants": list(tenants), "ids": [id_], "answer_bytes_max": None}
    cur = await execute(conn, "read_requests", params, struct_row(Request))
    return await cur.fetchone()


async def which_finished(conn: Connection, ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Those of `ids` whose request has finished."""
    found: list[uuid.UUID] = []
    for part in parts(ids):
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


async def cancel_request(conn: Connection, tenant: str, id_: uuid.UUID) -> bool:
    """Cancel it if it is the tenant's and still queued."""
    return await value(conn, "cancel_request", {"tenant": tenant, "id": id_}) is not None


async def read_body(conn: Connection, request: Request) -> bytes | None:
    """The body as it is sent; None if the request was deleted."""
    return cast(
        "bytes | None", await value(conn, "read_body", {"tenant": request.tenant, "id": request.id})
    )


async def retry_request(
    conn: Connection,
    tenant: str,
    id_: uuid.UUID,
    *,
    incomplete: bool,
    estimate: Decimal | None = None,
    usd_most: Decimal | None = None,
) -> bool:
    """Queue it again if it failed or was cancelled, or was answered by halves (`incomplete`).

    `estimate` and `usd_most` are USD that it may cost, and costs at most, this time.
    """
    params = {
        "tenant": tenant,
        "id": id_,
        "incomplete": incomplete,
        "estimate": estimate,
        "usd_most": usd_most,
    }
    return await value(conn, "retry_request", params) is not None


async def delete_request(conn: Connection, tenant: str, id_: uuid.UUID) -> bool:
    """Forget the tenant's request, with body and answer, if it has finished."""
    return await value(conn, "delete_request", {"tenant": tenant, "id": id_}) is not None
