"""What the answers cost, and to whom: one typed function a query of money.sql."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from psycopg.rows import class_row

from openaibatching.server.config import ALL_TENANTS
from openaibatching.server.db import Connection, execute, value
from openaibatching.server.model import Batch, Budgeted, Failed, FailureSum, SpendingSum, Spent


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
