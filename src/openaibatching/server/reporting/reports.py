"""What a tenant is told about all of its work: stats, batches, costs, a request's story.

The HTTP API and the page say the same, because both ask here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from openaibatching.server import errors
from openaibatching.server.auth import audit
from openaibatching.server.auth.audit import Actor
from openaibatching.server.auth.holder import Holder, Power
from openaibatching.server.billing import spending
from openaibatching.server.billing.budget import Budget
from openaibatching.server.billing.spending import Budgeted
from openaibatching.server.config.settings import ALL_TENANTS, Settings
from openaibatching.server.database.pool import Database
from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.request import Request
from openaibatching.server.domain.states import REQUEST_STATES
from openaibatching.server.domain.view import View
from openaibatching.server.pipeline import queue
from openaibatching.server.reporting import presenters, queries
from openaibatching.server.reporting.forecaster import Forecaster

QUEUES_MAX, BATCHES_MAX, FAILURES_MAX, EVENTS_MAX = 50, 100, 50, 1000
FAILURES_SINCE, HOURS_SINCE = timedelta(days=7), timedelta(hours=48)
MONTH_DAYS = 30


@dataclass(frozen=True, slots=True)
class Reports:
    """What the reports are read from. `now` is the time where a test owns the clock, else None."""

    settings: Settings
    database: Database
    forecaster: Forecaster
    budget: Budget
    now: Callable[[], datetime | None]

    async def view(self, holder: Holder) -> View:
        """All that the key may see. Raises DatabaseUnavailable."""
        if holder.may(Power.ALL_TENANTS):
            return View.everything(await self.database.read(queries.known_tenants))
        return View.own(holder.tenant, whole=holder.may(Power.ALL_METRICS))

    async def stats(self, view: View) -> dict[str, Any]:
        """The object of GET /v1/stats. Raises DatabaseUnavailable."""
        now = datetime.now(UTC)
        forecast = self.forecaster.forecast

        async def look(conn: Connection) -> dict[str, Any]:
            counts = await queries.count_requests(conn, view)
            linger = timedelta(seconds=self.settings.batch_linger_s)
            budgets = await self._budgets(conn, view)
            creates = await queue.creates_last_hour(conn, None)
            pace = presenters.Pace(linger, creates, list(budgets.values()))
            queues = await queries.read_queues(conn, view, presenters.COUNTED_MAX, QUEUES_MAX)
            batches = [
                presenters.batch(row, forecast, now, view)
                for row in await queries.open_batches(conn, view, BATCHES_MAX)
            ]
            failures = await queries.list_failures(conn, view, FAILURES_SINCE, FAILURES_MAX)
            return {
                "object": "stats",
                "tenant": view.tenant,
                "created_at": presenters.unix(now),
                "requests": {state: counts.get(state, 0) for state in REQUEST_STATES},
                "queue": [presenters.queue(row, pace, forecast, now) for row in queues],
                "batches": batches,
                "stuck": [batch for batch in batches if batch["stuck"]],
                "failures": [presenters.failure(row) for row in failures],
                "answers_by_hour": presenters.hours(
                    await queries.answers_by_hour(conn, view, HOURS_SINCE)
                ),
                "costs": {
                    "today": presenters.total(await queries.sum_costs(conn, view, 1)),
                    "last_30_days": presenters.total(
                        await queries.sum_costs(conn, view, MONTH_DAYS)
                    ),
                },
                "unread": presenters.unread(await queries.read_unread(conn, view, self.now())),
                "budget": presenters.budget(_shown(budgets, view))
                or await _without_budget(conn, view),
            }

        return await self.database.read(look)

    async def _budgets(self, conn: Connection, view: View) -> dict[str, Budgeted]:
        """The budgets that limit the view's work, as far as they are set."""
        found = await spending.read_budgets(conn, self.budget.limits, None)
        return {name: found[name] for name in (*view.tenants, ALL_TENANTS) if name in found}

    async def batches(self, view: View, after: str, limit: int) -> dict[str, Any]:
        """A page of the tenant's batches, newest first, in the shape of OpenAI's lists.

        `after` is a batch's id, or "". Raises NotFound, DatabaseUnavailable.
        """
        before_seq = (await self.find_batch(view, after)).seq if after else None
        found = await self.database.read(
            lambda conn: queries.list_batches(conn, view, before_seq, limit + 1)
        )
        now = datetime.now(UTC)
        data = [presenters.batch(row, self.forecaster.forecast, now, view) for row in found[:limit]]
        return {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(found) > limit,
        }

    async def batch(self, view: View, name: str) -> dict[str, Any]:
        """The tenant's batch of that name, our id or OpenAI's.

        Raises NotFound, DatabaseUnavailable.
        """
        row = await self.find_batch(view, name)
        return presenters.batch(row, self.forecaster.forecast, datetime.now(UTC), view)

    async def find_batch(self, view: View, name: str) -> queries.BatchRow:
        """The tenant's batch of that name, our id or OpenAI's.

        Raises NotFound, DatabaseUnavailable.
        """
        try:
            id_ = uuid.UUID(name)
        except ValueError:
            id_ = None
        try:
            found = await self.database.read(lambda conn: queries.find_batch(conn, view, id_, name))
        except errors.UnstorableText:
            found = None
        if found is None:
            raise errors.NotFound(f"No batch found with id '{name}'.", param="id")
        return found

    async def costs(self, view: View, days: int, by: Sequence[str]) -> dict[str, Any]:
        """The list of GET /v1/costs. Raises DatabaseUnavailable."""
        rows = await self.database.read(lambda conn: queries.sum_costs(conn, view, days, by))
        # Without a group there is one row, also when there is nothing to add up.
        return presenters.costs(rows if by or rows[0].answers else [], by)

    async def events(self, request: Request) -> dict[str, Any]:
        """The request's story. Raises DatabaseUnavailable."""
        rows = await self.database.read(
            lambda conn: queries.list_events(conn, request, EVENTS_MAX + 1)
        )
        data = [presenters.event(row) for row in rows[:EVENTS_MAX]]
        return {"object": "list", "data": data, "has_more": len(rows) > EVENTS_MAX}

    async def flush(self, by: Actor) -> dict[str, Any]:
        """Send what the tenant has queued now. Raises DatabaseUnavailable."""
        async with self.database.transaction() as conn:
            queued = (await queries.count_requests(conn, View.own(by.tenant))).get("queued", 0)
            await queries.wish_flush(conn, by.tenant)
            await audit.note(conn, audit.FLUSHED, by, f"{queued} queued")
        return {"object": "flush", "requests": queued}


def _shown(budgets: Mapping[str, Budgeted], view: View) -> list[Budgeted]:
    """Those that the view may show: what all have spent is no single tenant's business."""
    return [its for name, its in budgets.items() if name != ALL_TENANTS or view.whole]


async def _without_budget(conn: Connection, view: View) -> dict[str, Any]:
    """What was spent today, where nothing that may be shown limits it."""
    own = [row for row in await spending.read_commitments(conn, None) if row[0] in view.tenants]
    usd = {"spent": float(sum(r[1] for r in own)), "reserved": float(sum(r[2] for r in own))}
    return {"usd_day": None, **usd, "at_openai_most": None}
