"""What the answers cost, and to whom: one typed function a query of money.sql."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from psycopg.rows import class_row

from openaibatching.server.config.settings import ALL_TENANTS
from openaibatching.server.database.statements import Connection, execute, value
from openaibatching.server.domain.batch import Batch
from openaibatching.server.domain.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A budget of a day, and what uses it up today; all in USD.

    `reserved` is what all that is unfinished may cost by estimates, `at_openai` what the batches
    that are under way cost at most: infinite where nobody can say.
    """

    limit: Decimal
    spent: Decimal
    reserved: Decimal
    at_openai: Decimal

    @property
    def used_up(self) -> bool:
        """Whether the day has cost what it may."""
        return self.spent >= self.limit

    @property
    def left(self) -> float:
        """USD that the next batch may cost at most."""
        return float(self.limit - self.spent - self.at_openai)

    @property
    def sends(self) -> bool:
        """Whether another batch may be sent: only that one can then pass the budget."""
        return self.spent + self.at_openai < self.limit


@dataclass(frozen=True, slots=True)
class Spent:
    """What answers of one endpoint and model cost a tenant; money in USD.

    `unpriced` answers have no known price, `incomplete` ones a receipt that leaves something out.
    `lost` is paid for answers that never came; it is a part of `paid`. `assumed` is what budgets
    count for tokens without a price, and no part of `paid`.
    """

    tenant: str
    answers: int
    unpriced: int
    incomplete: int
    tokens: Tokens
    realtime: Decimal
    paid: Decimal
    lost: Decimal
    assumed: Decimal


@dataclass(frozen=True, slots=True)
class Failed:
    """How often one reason made a tenant's requests fail for good, and the last of them."""

    tenant: str
    status_code: int
    code: str
    n: int
    example: uuid.UUID


@dataclass(frozen=True, slots=True)
class SpendingSum:
    """What the answers of one endpoint and model were, of all tenants; money in USD.

    `first` is the hour of the first one. `settled` sums do not grow any more: they are of hours
    before `settled_to`.
    """

    settled: bool
    settled_to: datetime
    endpoint: str
    model: str
    first: datetime
    answers: int
    unpriced: int
    incomplete: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    realtime: Decimal
    paid: Decimal
    lost: Decimal

    def __add__(self, other: SpendingSum) -> SpendingSum:
        return replace(
            self,
            first=min(self.first, other.first),
            answers=self.answers + other.answers,
            unpriced=self.unpriced + other.unpriced,
            incomplete=self.incomplete + other.incomplete,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            realtime=self.realtime + other.realtime,
            paid=self.paid + other.paid,
            lost=self.lost + other.lost,
        )


@dataclass(frozen=True, slots=True)
class FailureSum:
    """How many requests to one endpoint failed for good with one status, of all tenants."""

    settled: bool
    settled_to: datetime
    endpoint: str
    status_code: int
    n: int

    def __add__(self, other: FailureSum) -> FailureSum:
        return replace(self, n=self.n + other.n)


async def add_spending(
    conn: Connection, batch: Batch, spent: Sequence[Spent], now: datetime | None
) -> None:
    """Charge tenants what answers of the batch cost, in this hour."""
    if not spent:
        return
    params = {
        "endpoint": batch.endpoint,
        "model": batch.model,
        "tenants": [s.tenant for s in spent],
        "answers": [s.answers for s in spent],
        "unpriced": [s.unpriced for s in spent],
        "incomplete": [s.incomplete for s in spent],
        "input_tokens": [s.tokens.input for s in spent],
        "cached_tokens": [s.tokens.cached for s in spent],
        "output_tokens": [s.tokens.output for s in spent],
        "reasoning_tokens": [s.tokens.reasoning for s in spent],
        "realtime": [s.realtime for s in spent],
        "paid": [s.paid for s in spent],
        "lost": [s.lost for s in spent],
        "assumed": [s.assumed for s in spent],
        "now": now,
    }
    await execute(conn, "add_spending", params)


async def add_failures(
    conn: Connection, batch: Batch, failed: Sequence[Failed], now: datetime | None
) -> None:
    """Count what failed for good, in this hour."""
    if not failed:
        return
    params = {
        "endpoint": batch.endpoint,
        "model": batch.model,
        "tenants": [f.tenant for f in failed],
        "status_codes": [f.status_code for f in failed],
        "codes": [f.code for f in failed],
        "ns": [f.n for f in failed],
        "examples": [f.example for f in failed],
        "now": now,
    }
    await execute(conn, "add_failures", params)


async def add_share_counts(
    conn: Connection, batch: Batch, ended: Mapping[str, Mapping[str, int]]
) -> None:
    """Count how requests of the batch ended: {tenant: {state: how many}}."""
    if not ended:
        return
    tenants = sorted(ended)
    params: dict[str, object] = {"batch_id": batch.id, "tenants": tenants}
    for column, state in (
        ("completed", "completed"),
        ("failed", "failed"),
        ("requeued", "queued"),
        ("cancelled", "cancelled"),
    ):
        params[column] = [ended[tenant].get(state, 0) for tenant in tenants]
    await execute(conn, "add_share_counts", params)


async def read_shares(conn: Connection, batch: Batch) -> list[tuple[str, int]]:
    """(tenant, requests) of each tenant that the batch has requests of."""
    return await (await execute(conn, "read_shares", {"batch_id": batch.id})).fetchall()


async def read_commitments(
    conn: Connection, now: datetime | None
) -> list[tuple[str, Decimal, Decimal, Decimal]]:
    """(tenant, USD paid today, USD that its unfinished requests may cost by estimates, USD that its
    batches at OpenAI cost at most)."""
    return await (await execute(conn, "read_commitments", {"now": now})).fetchall()


async def read_budgets(
    conn: Connection, limits: Mapping[str, Decimal], now: datetime | None
) -> dict[str, Budgeted]:
    """The budgets, {tenant or ALL_TENANTS: USD a day}, with what uses them up."""
    if not limits:
        return {}
    sums = {name: [Decimal(0)] * 3 for name in limits}
    for tenant, *usd in await read_commitments(conn, now):
        for name in {tenant, ALL_TENANTS} & sums.keys():
            sums[name] = [a + b for a, b in zip(sums[name], usd, strict=True)]
    return {name: Budgeted(limits[name], *its) for name, its in sums.items()}


async def lock_budgets(conn: Connection) -> bool:
    """Whether this transaction alone forms batches now. It holds until its end."""
    return bool(await value(conn, "lock_budgets", {}))


async def read_mean_outputs(conn: Connection) -> dict[tuple[str, str], int]:
    """{(endpoint, model): output tokens of its usual answer}."""
    rows = await (await execute(conn, "read_mean_outputs", {})).fetchall()
    return {(endpoint, model): mean for endpoint, model, mean in rows}


async def which_known(conn: Connection, ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Those of `ids` that are stored: they have their place in the budget."""
    rows = await (await execute(conn, "which_known", {"ids": list(ids)})).fetchall()
    return {row[0] for row in rows}


async def sum_spending(conn: Connection, since: datetime, tenant: str | None) -> list[SpendingSum]:
    """The spending of all tenants, or of one, from an hour on, the settled hours apart from the
    others."""
    params = {"since": since, "tenant": tenant}
    cur = await execute(conn, "sum_spending", params, class_row(SpendingSum))
    return await cur.fetchall()


async def sum_failures(conn: Connection, since: datetime, tenant: str | None) -> list[FailureSum]:
    """As `sum_spending`, of failures."""
    params = {"since": since, "tenant": tenant}
    cur = await execute(conn, "sum_failures", params, class_row(FailureSum))
    return await cur.fetchall()
