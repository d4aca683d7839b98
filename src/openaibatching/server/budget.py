"""Budgets: a call that may pass what a day may cost is refused at the door.

What counts is what was paid today (UTC), and what is queued and at OpenAI by its estimates. The
sums of all servers are read at most twice a second, and what this one lets in meanwhile is added,
so several servers together may let in a little more. Estimates may be too low: that a day is not
passed by more than one batch is seen to where batches are formed (form.py).
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from openaibatching.server import ceiling, money, receipts
from openaibatching.server.call import CHAT, COMPLETIONS, RESPONSES
from openaibatching.server.config import ALL_TENANTS
from openaibatching.server.db import Database
from openaibatching.server.errors import BudgetExceeded, Refusal
from openaibatching.server.model import Call, Tokens

FRESH_S, MEANS_S = 0.5, 60.0
OUTPUT_TOKENS_GUESS = 1000
"""Of an answer to a model and endpoint that nothing is known of yet."""
_WRITTEN = (CHAT, RESPONSES, COMPLETIONS)


class Budget:
    """The budgets of one server. `limits` are in USD a day, by tenant or
    ALL_TENANTS; none: no budget."""

    def __init__(self, database: Database, limits: Mapping[str, Decimal]) -> None:
        self.limits = limits
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
        estimated = [
            replace(call, estimate=self.estimate(call), usd_most=ceiling.usd_most(call))
            for call in calls
        ]
        admitted = [call for call in estimated if self._take(call)]
        left = {call.id: call for call in estimated} if len(admitted) < len(calls) else {}
        for call in admitted:
            left.pop(call.id, None)
        if left:
            async with self._database.statement() as conn:
                known = await money.which_known(conn, list(left))
            admitted += [left.pop(id_) for id_ in known]
        return admitted, {id_: BudgetExceeded(self._said(call)) for id_, call in left.items()}

    def estimate(self, call: Call) -> Decimal:
        """What the call may cost, in USD; 0 where the model has no known price."""
        written = 0
        if call.endpoint in _WRITTEN:
            written = self._means.get((call.endpoint, call.model), OUTPUT_TOKENS_GUESS)
            if call.output_tokens_max is not None:
                written = min(written, call.output_tokens_max)
        usd = receipts.realtime_usd(call.model, Tokens(call.tokens, 0, written, 0))
        return (usd or receipts.ZERO) * receipts.BATCH_PRICE

    def _take(self, call: Call) -> bool:
        asked = call.estimate or receipts.ZERO
        for name in (call.tenant, ALL_TENANTS):
            if name in self.limits and self._committed[name] + asked > self.limits[name]:
                return False
        for name in (call.tenant, ALL_TENANTS):
            self._committed[name] += asked
        return True

    def _said(self, call: Call) -> str:
        name = call.tenant if call.tenant in self.limits else ALL_TENANTS
        whose = f"of tenant '{name}'" if name else "of this service"
        left = max(receipts.ZERO, self.limits[name] - self._committed[name])
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
                rows = await money.read_commitments(conn, None)
                if clock() - self._means_at >= MEANS_S:
                    self._means = await money.read_mean_outputs(conn)
                    self._means_at = clock()
            self._committed = _by_name(rows)
            self._read_at = clock()


def _by_name(rows: Iterable[tuple[str, Decimal, Decimal, Decimal]]) -> defaultdict[str, Decimal]:
    committed: defaultdict[str, Decimal] = defaultdict(Decimal)
    for tenant, spent, reserved, _ in rows:
        committed[tenant] += spent + reserved
        committed[ALL_TENANTS] += spent + reserved
    return committed
