"""What a tenant is told about all of its work: stats, batches, costs, a request's story.

The HTTP API and the page say the same, because both ask here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from openaibatching.server import audit, errors, money, reports, situation, store
from openaibatching.server.audit import Actor
from openaibatching.server.config import ALL_TENANTS
from openaibatching.server.db import Connection
from openaibatching.server.door import Door
from openaibatching.server.holder import Holder, Power
from openaibatching.server.model import REQUEST_STATES, Budgeted, Request
from openaibatching.server.view import View

QUEUES_MAX, BATCHES_MAX, FAILURES_MAX, EVENTS_MAX = 50, 100, 50, 1000
FAILURES_SINCE, HOURS_SINCE = timedelta(days=7), timedelta(hours=48)
MONTH_DAYS = 30


async def view(door: Door, holder: Holder) -> View:
    """All that the key may see. Raises DatabaseUnavailable."""
    if holder.may(Power.ALL_TENANTS):
        return View.everything(await door.read(reports.known_tenants))
    return View.own(holder.tenant, whole=holder.may(Power.ALL_METRICS))


async def stats(door: Door, view: View) -> dict[str, Any]:
    """The object of GET /v1/stats. Raises DatabaseUnavailable."""
    now = datetime.now(UTC)
    forecast = door.forecaster.forecast

    async def look(conn: Connection) -> dict[str, Any]:
        counts = await reports.count_requests(conn, view)
        linger = timedelta(seconds=door.ctx.settings.batch_linger_s)
        budgets = await _budgets(door, conn, view)
        creates = await store.creates_last_hour(conn, None)
        pace = situation.Pace(linger, creates, list(budgets.values()))
        queues = await reports.read_queues(conn, view, situation.COUNTED_MAX, QUEUES_MAX)
        batches = [
            situation.batch(row, forecast, now, view)
            for row in await reports.open_batches(conn, view, BATCHES_MAX)
        ]
        failures = await reports.list_failures(conn, view, FAILURES_SINCE, FAILURES_MAX)
        return {
            "object": "stats",
            "tenant": view.tenant,
            "created_at": situation.unix(now),
            "requests": {state: counts.get(state, 0) for state in REQUEST_STATES},
            "queue": [situation.queue(row, pace, forecast, now) for row in queues],
            "batches": batches,
            "stuck": [batch for batch in batches if batch["stuck"]],
            "failures": [situation.failure(row) for row in failures],
            "answers_by_hour": situation.hours(
                await reports.answers_by_hour(conn, view, HOURS_SINCE)
            ),
            "costs": {
                "today": situation.total(await reports.sum_costs(conn, view, 1)),
                "last_30_days": situation.total(await reports.sum_costs(conn, view, MONTH_DAYS)),
            },
            "unread": situation.unread(await reports.read_unread(conn, view, door.ctx.now())),
            "budget": situation.budget(_shown(budgets, view)) or await _without_budget(conn, view),
        }

    return await door.read(look)


async def _budgets(door: Door, conn: Connection, view: View) -> dict[str, Budgeted]:
    """The budgets that limit the view's work, as far as they are set."""
    found = await money.read_budgets(conn, door.budget.limits, None)
    return {name: found[name] for name in (*view.tenants, ALL_TENANTS) if name in found}


def _shown(budgets: Mapping[str, Budgeted], view: View) -> list[Budgeted]:
    """Those that the view may show: what all have spent is no single tenant's business."""
    return [its for name, its in budgets.items() if name != ALL_TENANTS or view.whole]


async def _without_budget(conn: Connection, view: View) -> dict[str, Any]:
    """What was spent today, where nothing that may be shown limits it."""
    own = [row for row in await money.read_commitments(conn, None) if row[0] in view.tenants]
    usd = {"spent": float(sum(r[1] for r in own)), "reserved": float(sum(r[2] for r in own))}
    return {"usd_day": None, **usd, "at_openai_most": None}


async def batches(door: Door, view: View, after: str, limit: int) -> dict[str, Any]:
    """A page of the tenant's batches, newest first, in the shape of OpenAI's lists.

    `after` is a batch's id, or "". Raises NotFound, DatabaseUnavailable.
    """
    before_seq = (await find_batch(door, view, after)).seq if after else None
    found = await door.read(lambda conn: reports.list_batches(conn, view, before_seq, limit + 1))
    now = datetime.now(UTC)
    data = [situation.batch(row, door.forecaster.forecast, now, view) for row in found[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }


async def batch(door: Door, view: View, name: str) -> dict[str, Any]:
    """The tenant's batch of that name, our id or OpenAI's. Raises NotFound, DatabaseUnavailable."""
    row = await find_batch(door, view, name)
    return situation.batch(row, door.forecaster.forecast, datetime.now(UTC), view)


async def find_batch(door: Door, view: View, name: str) -> reports.BatchRow:
    """The tenant's batch of that name, our id or OpenAI's. Raises NotFound, DatabaseUnavailable."""
    try:
        id_ = uuid.UUID(name)
    except ValueError:
        id_ = None
    try:
        found = await door.read(lambda conn: reports.find_batch(conn, view, id_, name))
    except errors.UnstorableText:
        found = None
    if found is None:
        raise errors.NotFound(f"No batch found with id '{name}'.", param="id")
    return found


async def costs(door: Door, view: View, days: int, by: Sequence[str]) -> dict[str, Any]:
    """The list of GET /v1/costs. Raises DatabaseUnavailable."""
    rows = await door.read(lambda conn: reports.sum_costs(conn, view, days, by))
    # Without a group there is one row, also when there is nothing to add up.
    return situation.costs(rows if by or rows[0].answers else [], by)


async def events(door: Door, request: Request) -> dict[str, Any]:
    """The request's story. Raises DatabaseUnavailable."""
    rows = await door.read(lambda conn: reports.list_events(conn, request.seq, EVENTS_MAX + 1))
    data = [situation.event(row) for row in rows[:EVENTS_MAX]]
    return {"object": "list", "data": data, "has_more": len(rows) > EVENTS_MAX}


async def flush(door: Door, by: Actor) -> dict[str, Any]:
    """Send what the tenant has queued now. Raises DatabaseUnavailable."""
    async with door.ctx.database.transaction() as conn:
        queued = (await reports.count_requests(conn, View.own(by.tenant))).get("queued", 0)
        await reports.wish_flush(conn, by.tenant)
        await audit.note(conn, audit.FLUSHED, by, f"{queued} queued")
    return {"object": "flush", "requests": queued}
