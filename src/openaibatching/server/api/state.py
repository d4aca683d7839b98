"""What the handlers of the door work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from cachetools import TTLCache
from starlette.requests import Request as HttpRequest

from openaibatching.server.api.http import reading
from openaibatching.server.auth.keyring import Keyring
from openaibatching.server.billing.budget import Budget
from openaibatching.server.billing.totals import AllTotals
from openaibatching.server.database.outages import OUTAGE_S_MAX, through_outage
from openaibatching.server.database.readiness import Readiness
from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.request import Call, Request
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai.client import WEBHOOK_TOLERANCE_S
from openaibatching.server.providers.openai.model_list import ModelList
from openaibatching.server.reporting.forecaster import Forecaster
from openaibatching.server.reporting.reports import Reports
from openaibatching.server.requests import previous_response
from openaibatching.server.requests.actions import Actions
from openaibatching.server.requests.answers_read import AnswersRead
from openaibatching.server.requests.callers import Callers
from openaibatching.server.requests.group_commit import Acceptor
from openaibatching.server.requests.quotas import Quotas
from openaibatching.server.requests.waiters import Deliverer
from openaibatching.server.telemetry.limited_log import Sparing

T = TypeVar("T")

WEBHOOKS_SEEN_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Door:
    """One server's door."""

    ctx: Context
    keyring: Keyring
    acceptor: Acceptor
    deliverer: Deliverer
    forecaster: Forecaster
    budget: Budget
    callers: Callers
    quotas: Quotas
    models: ModelList
    answers_read: AnswersRead
    readiness: Readiness
    actions: Actions
    reports: Reports
    totals: AllTotals = field(default_factory=AllTotals)
    webhooks_seen: TTLCache[str, bool] = field(
        default_factory=lambda: TTLCache(WEBHOOKS_SEEN_MAX, ttl=2 * WEBHOOK_TOLERANCE_S)
    )
    """The ids of webhooks, for as long as a copy of one could still pass for fresh."""
    webhooks_refused: Sparing = field(default_factory=lambda: Sparing("webhook_refused"))

    def traceparent(self, http: HttpRequest) -> str | None:
        """The caller's place in its trace, if it is sampled and this server makes spans."""
        return None if self.ctx.tracing is None else reading.traceparent(http)

    async def accept(self, call: Call) -> Request:
        """Store the call, or find it. Raises what `admit` refuses it for, and what
        Acceptor.accept raises."""
        admitted, refused = await self.admit([call])
        if refused:
            raise refused[call.id]
        return await self.acceptor.accept(admitted[0])

    async def admit(self, calls: Sequence[Call]) -> tuple[list[Call], previous_response.Refused]:
        """The calls that may be stored, as they are to be, and the others; asked again while
        PostgreSQL restarts. See previous.resolve, Quotas.admit and Budget.admit."""
        refused: previous_response.Refused = {}
        if any(call.previous is not None for call in calls):
            settings = self.ctx.settings
            calls, refused = await self.read(
                lambda c: previous_response.resolve(c, settings, calls)
            )
        if not self.quotas.pass_by(calls):
            calls, above = await through_outage(partial(self.quotas.admit, calls), OUTAGE_S_MAX)
            refused = {**refused, **above}
        if not self.budget.limits:
            return list(calls), refused
        admitted, beyond = await through_outage(lambda: self.budget.admit(calls), OUTAGE_S_MAX)
        return admitted, {**refused, **beyond}

    def eta(self, request: Request) -> datetime | None:
        """When the request will be answered, as far as anybody can tell."""
        return self.forecaster.forecast.of_request(request, datetime.now(UTC))

    async def read(
        self, query: Callable[[Connection], Awaitable[T]], outage_s: float = OUTAGE_S_MAX
    ) -> T:
        """What `query` finds, through an outage of at most `outage_s` seconds (Database.read)."""
        return await self.ctx.database.read(query, outage_s)
