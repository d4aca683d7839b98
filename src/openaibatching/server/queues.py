"""What is queued, and whose batches come next: one typed function a query."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from psycopg.rows import class_row

from openaibatching.server.creations import Creations, Used
from openaibatching.server.db import Connection, execute, struct_row, value
from openaibatching.server.endpoints import ENDPOINTS
from openaibatching.server.model import Queued
from openaibatching.server.store import ROWS_AT_ONCE, Group

GROUPS_AT_ONCE = 200


async def queued_models(conn: Connection, tenant: str, most: int) -> list[str]:
    """The models of which the tenant has something queued, at most so many of them."""
    params = {"tenant": tenant, "most": most, "endpoints": len(ENDPOINTS)}
    return [row[0] for row in await (await execute(conn, "queued_models", params)).fetchall()]


async def count_queued(conn: Connection, tenant: str) -> int:
    """How many requests the tenant has queued."""
    return cast("int", await value(conn, "count_queued", {"tenant": tenant}))


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
