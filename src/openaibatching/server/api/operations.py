"""GET /metrics."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from openaibatching.server.api.http import reading
from openaibatching.server.api.state import Door
from openaibatching.server.auth.holder import Power
from openaibatching.server.billing import spending as billing_spending
from openaibatching.server.database.statements import Connection
from openaibatching.server.pipeline import queue, store
from openaibatching.server.reporting import metrics, queries


async def read_metrics(door: Door, http: HttpRequest) -> Response:
    """GET /metrics: Prometheus text; of all tenants and the server, or of a tenant alone."""
    holder = await reading.holder(http, door.keyring)
    reading.require(holder, Power.ALL_METRICS, Power.READ)
    tenant = None if holder.may(Power.ALL_METRICS) else holder.tenant

    async def look(conn: Connection) -> metrics.Look:
        spending, failures = await door.totals.of(tenant).read(conn)
        budgets = await billing_spending.read_budgets(conn, door.budget.limits, None)
        return metrics.Look(
            tally=await queries.read_tally(conn, tenant),
            oldest_queued_s=await queries.oldest_queued_s(conn, tenant),
            stuck=await store.stuck_batches(conn, None, tenant),
            spending=spending,
            failures=failures,
            budgets={n: its for n, its in budgets.items() if tenant in (None, n)},
            account=await _account(conn) if tenant is None else None,
        )

    page = metrics.render(await door.read(look), version("openaibatching"))
    return Response(page, media_type=metrics.CONTENT_TYPE)


async def _account(conn: Connection) -> metrics.Account:
    return metrics.Account(
        creates_last_hour=await queue.creates_last_hour(conn, None),
        token_limits=await queries.token_limits(conn),
    )
