"""What answers cost and who is charged for it: receipts added up by tenant. Pure."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from openaibatching.server.billing.spending import Failed, Spent
from openaibatching.server.domain.batch import Result
from openaibatching.server.domain.tokens import NO_TOKENS, Tokens


def cost(realtime: Decimal, paid: Decimal) -> dict[str, Any]:
    """Money in USD: what was paid by batch, the price in real time, and the difference."""
    return {
        "currency": "usd",
        "paid": float(paid),
        "realtime": float(realtime),
        "saved": float(realtime - paid),
    }


ZERO = Decimal(0)


def spent(
    results: Iterable[Result], tenants: Mapping[uuid.UUID, str], unpriced: Decimal = ZERO
) -> list[Spent]:
    """What the completed ones among these results cost each tenant.

    `unpriced`: what budgets count for a million tokens without a price, in USD.
    """
    by_tenant: defaultdict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.state == "completed":
            by_tenant[tenants[result.id]].append(result)
    return [_sum(tenant, its, unpriced) for tenant, its in sorted(by_tenant.items())]


def _sum(tenant: str, results: Sequence[Result], unpriced: Decimal) -> Spent:
    priced = [r.receipt for r in results if r.receipt is not None]
    without = sum((r.tokens for r in results if r.receipt is None), NO_TOKENS)
    return Spent(
        tenant,
        answers=len(results),
        unpriced=len(results) - len(priced),
        incomplete=sum(receipt.incomplete for receipt in priced),
        tokens=sum((r.tokens for r in results), NO_TOKENS),
        realtime=sum((receipt.realtime for receipt in priced), ZERO),
        paid=sum((receipt.paid for receipt in priced), ZERO),
        lost=ZERO,
        assumed=_assumed(without, unpriced),
    )


def failed(results: Iterable[Result], tenants: Mapping[uuid.UUID, str]) -> list[Failed]:
    """The reasons why some of these results failed for good, counted."""
    counted: dict[tuple[str, int, str], tuple[int, uuid.UUID]] = {}
    for result in results:
        if result.state == "failed":
            reason = (tenants[result.id], result.status_code or 0, result.code)
            counted[reason] = (counted.get(reason, (0, result.id))[0] + 1, result.id)
    return [Failed(*reason, n, example) for reason, (n, example) in sorted(counted.items())]


def ended(results: Iterable[Result], tenants: Mapping[uuid.UUID, str]) -> dict[str, dict[str, int]]:
    """{tenant: {state: how many of these results}}."""
    counted: dict[str, dict[str, int]] = {}
    for result in results:
        its = counted.setdefault(tenants[result.id], {})
        its[result.state] = its.get(result.state, 0) + 1
    return counted


def lost(
    tokens: Tokens,
    usd: Decimal | None,
    shares: Sequence[tuple[str, int]],
    unpriced: Decimal = ZERO,
) -> list[Spent]:
    """Tokens that were paid for and brought no answer, charged to the batch's tenants by their
    `shares` of its requests; to the token, whatever the shares are.

    `usd` is their price by batch, None where it is not known; then budgets count `unpriced` USD a
    million.
    """
    total = sum(share for _, share in shares)
    charged: list[Spent] = []
    before = 0
    for tenant, share in shares:
        part = _between(tokens, before, before + share, total)
        paid = ZERO if usd is None else usd * share / total
        assumed = ZERO if usd is not None else _assumed(part, unpriced)
        charged.append(Spent(tenant, 0, 0, 0, part, ZERO, paid, paid, assumed))
        before += share
    return charged


def _assumed(tokens: Tokens, usd_mtok: Decimal) -> Decimal:
    return usd_mtok * (tokens.input + tokens.output) / 1_000_000


def _between(tokens: Tokens, start: int, end: int, total: int) -> Tokens:
    """The part of the tokens from `start` to `end` of `total`: neighbours add up to the whole."""
    return Tokens(*(n * end // total - n * start // total for n in msgspec.structs.astuple(tokens)))
