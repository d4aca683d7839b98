"""What the server asks of the database to call work off: one typed function a query."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from openaibatching.server.database.statements import Connection, execute, value
from openaibatching.server.domain.batch import Batch


@dataclass(frozen=True, slots=True)
class Queued:
    """Which of a tenant's queued requests. What is None does not limit them; `created_before` has a
    time zone."""

    tenant: str
    model: str | None = None
    endpoint: str | None = None
    created_before: datetime | None = None


async def last_queued(conn: Connection, tenant: str) -> int | None:
    """The `seq` of the tenant's newest queued request; None if it has none."""
    return cast("int | None", await value(conn, "last_queued", {"tenant": tenant}))


async def cancel_queued(
    conn: Connection, which: Queued, after_seq: int, last_seq: int, limit: int
) -> tuple[int | None, int]:
    """Cancel the first `limit` of these requests after `after_seq` and up to `last_seq`.

    Gives the last `seq` that was looked at, None if none was left, and how many were cancelled.
    """
    params = {
        "tenant": which.tenant,
        "model": which.model,
        "endpoint": which.endpoint,
        "created_before": which.created_before,
        "after_seq": after_seq,
        "last_seq": last_seq,
        "limit": limit,
    }
    row = await (await execute(conn, "cancel_queued", params)).fetchone()
    assert row is not None
    return row[0], row[1]


async def wish_cancel(conn: Connection, tenant: str, batch_id: uuid.UUID) -> bool:
    """Wish the end of a batch; False if OpenAI has ended it, or if it is not the tenant's alone."""
    params = {"id": batch_id, "tenant": tenant}
    return (await (await execute(conn, "wish_cancel", params)).fetchone()) is not None


async def lock_wish(conn: Connection, batch: Batch) -> bool:
    """Whether the batch's end is wished; until the transaction ends, nobody can wish it."""
    return bool(await value(conn, "lock_wish", {"id": batch.id}))
