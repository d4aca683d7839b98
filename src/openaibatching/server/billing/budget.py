"""Budgets: a call that may pass what a day may cost is refused at the door.

What counts is what was paid today (UTC), and what is queued and at OpenAI by its estimates. The
sums of all servers are read at most twice a second, and what this one lets in meanwhile is added,
so several servers together may let in a little more. Estimates may be too low: that a day is not
passed by more than one batch is seen to where batches are formed (pipeline/form.py).
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from openaibatching.server.billing import cost_bound, estimates, prices, spending
from openaibatching.server.config.settings import ALL_TENANTS, Settings
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.endpoints import MODERATIONS
from openaibatching.server.domain.request import NO_MODEL, Call
from openaibatching.server.errors import BudgetExceeded, Refusal

FRESH_S, MEANS_S = 0.5, 60.0
_IMAGE_OUTPUT = "output_image_mtok"
_DRAWS = "gpt-image-1"
"""What the tool for images draws with (https://platform.openai.com/docs/guides/tools-image-generation)."""


class Budget:
    """The budgets of one server, as its settings have them; without one, all calls pass."""

    def __init__(
        self, database: Database, settings: Settings, price_list: prices.PriceList
    ) -> None:
        self.limits = settings.budgets
        self._refuses_unpriced = settings.refuses_unpriced
        self._unpriced = prices.flat(settings.unpriced_usd_mtok)
        self._prices = price_list
        self._database = database
        self._committed: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._means: dict[tuple[str, str], int] = {}
        self._read_at = self._means_at = float("-inf")
        self._reading = asyncio.Lock()

    async def admit(self, calls: Sequence[Call]) -> tuple[list[Call], dict[uuid.UUID, Refusal]]:
        """The calls that may be stored, with their estimates, and the others' refusals by id.

        A call that is stored already costs nothing more, and passes. Raises DatabaseUnavailable.
        """
        if not self.limits:
            return list(calls), {}
        await self._refresh()
        estimated = [self._estimated(call) for call in calls]
        admitted = [call for call in estimated if self._take(call)]
        left = {call.id: call for call in estimated} if len(admitted) < len(calls) else {}
        for call in admitted:
            left.pop(call.id, None)
        if left:
            async with self._database.statement() as conn:
                known = await spending.which_known(conn, list(left))
            admitted += [left.pop(id_) for id_ in known]
        return admitted, {id_: BudgetExceeded(self._said(call)) for id_, call in left.items()}

    async def again(self, call: Call) -> Call:
        """The call of a request that has finished and is to be queued again, with its estimate.

        It costs as much as a new one. Raises BudgetExceeded, DatabaseUnavailable.
        """
        if not self.limits:
            return call
        await self._refresh()
        estimated = self._estimated(call)
        if not self._take(estimated):
            raise BudgetExceeded(self._said(estimated))
        return estimated

    def estimate(self, call: Call) -> Decimal:
        """What the call may cost, in USD; without a known price, what the settings count for it."""
        value = call.parsed or {}
        price = self._price(call) or self._unpriced
        written = estimates.output_tokens(call, self._means.get((call.endpoint, call.model)))
        calls = estimates.tool_calls(value)
        read = call.tokens + calls * estimates.TOOL_TOKENS_GUESS
        rates = price.batch.at(read)
        output = rates.output
        if call.endpoint in estimates.IMAGES:
            output = max(output, price.batch.rate(_IMAGE_OUTPUT) or prices.ZERO)
        usd = read * rates.input + written * output
        if calls:
            usd += calls * (price.fee_most or prices.ZERO)
        if images := estimates.drawn_images(value):
            drawing = (self._prices.of(_DRAWS) or self._unpriced).batch
            rate = max(drawing.at(0).output, drawing.rate(_IMAGE_OUTPUT) or prices.ZERO)
            usd += images * cost_bound.IMAGE_TOKENS_GUESS * rate
        return usd

    def _estimated(self, call: Call) -> Call:
        price = self._price(call) or self._unpriced
        most = cost_bound.usd_most(call, price)
        return replace(call, estimate=self.estimate(call), usd_most=most, parsed=None)

    def _price(self, call: Call) -> prices.Price | None:
        if call.model != NO_MODEL:
            return self._prices.of(call.model)
        # Moderations are free by default; a stored prompt may name the most expensive model.
        return prices.FREE if call.endpoint == MODERATIONS else None

    def _unknown(self, call: Call) -> bool:
        """Whether the call is refused because a budget cannot count it."""
        concerned = call.tenant in self.limits or ALL_TENANTS in self.limits
        return self._refuses_unpriced and concerned and self._price(call) is None

    def _take(self, call: Call) -> bool:
        if self._unknown(call):
            return False
        asked = call.estimate or prices.ZERO
        for name in (call.tenant, ALL_TENANTS):
            if name in self.limits and self._committed[name] + asked > self.limits[name]:
                return False
        for name in (call.tenant, ALL_TENANTS):
            self._committed[name] += asked
        return True

    def _said(self, call: Call) -> str:
        if self._unknown(call):
            model = f"the model '{call.model}'" if call.model else "a stored prompt without 'model'"
            return (
                f"No price is known for {model}, so the budget cannot count this call. "
                "BATCH_BUDGET_UNPRICED decides: refuse (as now), allow, or USD a million tokens."
            )
        name = call.tenant if call.tenant in self.limits else ALL_TENANTS
        whose = f"of tenant '{name}'" if name else "of this service"
        left = max(prices.ZERO, self.limits[name] - self._committed[name])
        return (
            f"This call may cost ${call.estimate:.6f}. The budget {whose}, ${self.limits[name]} a "
            f"day (BATCH_BUDGET_USD_DAY), has ${left:.6f} left, counting what is queued and at "
            "OpenAI. The day ends at 00:00 UTC."
        )

    async def _refresh(self) -> None:
        clock = asyncio.get_running_loop().time
        async with self._reading:
            if clock() - self._read_at < FRESH_S:
                return
            async with self._database.statement() as conn:
                rows = await spending.read_commitments(conn, None)
                if clock() - self._means_at >= MEANS_S:
                    self._means = await spending.read_mean_outputs(conn)
                    self._means_at = clock()
            self._committed = _by_name(rows)
            self._read_at = clock()


def _by_name(rows: Iterable[tuple[str, Decimal, Decimal, Decimal]]) -> defaultdict[str, Decimal]:
    committed: defaultdict[str, Decimal] = defaultdict(Decimal)
    for tenant, spent, reserved, _ in rows:
        committed[tenant] += spent + reserved
        committed[ALL_TENANTS] += spent + reserved
    return committed
