"""A day never costs more than its budget and one batch, however wrong the estimates are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from openaibatching.server.billing.budget import Budget
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.endpoints import CHAT
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.requests.parse import read_call
from support.door import Door, all_metrics, open_door
from support.postgres import ONE_KIND, Cluster
from support.steps import chat, drive, put, store_calls
from support.world import Clock, until

pytestmark = ONE_KIND

Rows = psycopg.Connection[tuple[Any, ...]]
SHORT: dict[str, Any] = {"max_tokens": 10}
LONG_USD = Decimal("0.64")
"""What 128,000 tokens of gpt-4o, its context window, cost by batch: an answer that has no limit."""
UNKNOWN: dict[str, Any] = {
    "prediction": {"type": "content", "content": "is charged as well where it is wrong"}
}
"""What makes that nobody can say what the call costs at most."""


async def admit(ctx: Context, *bodies: dict[str, Any], tenant: str = "default") -> None:
    """Accept these calls as the door does where a budget is set."""
    calls = [
        read_call(ctx.settings, tenant, CHAT, json.dumps(body).encode(), None) for body in bodies
    ]
    admitted, refused = await Budget(ctx.database, ctx.settings, ctx.prices).admit(calls)
    assert not refused
    await store_calls(ctx, admitted)


def with_budget(ctx: Context, usd_day: str) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_budget_usd_day": usd_day})


async def formed(ctx: Context, clock: Clock) -> int:
    """How many batches are sent when everything has lingered."""
    clock.advance(60)
    batches = 0
    while await form_one(ctx):
        batches += 1
    return batches


async def stats(door: Door) -> dict[str, Any]:
    found: dict[str, Any] = (await door.client.get("/v1/stats")).json()
    return found


async def test_estimates_that_are_far_too_low_pass_the_budget_by_one_batch_at_most(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The answers of the week were empty, and now each repeats its long question."""
    estimate = Decimal(len(json.dumps(chat("0 " * 3000)))) / 4 * Decimal("1.25") / 1_000_000
    limit = round(estimate * 12, 6)
    changes: dict[str, Any] = {"batch_requests_max": 2, "batch_linger_s": 3600.0}
    async with open_door(cluster, tmp_path, **changes, batch_budget_usd_day=f"{limit}") as door:
        with psycopg.connect(door.database_url) as conn:
            conn.execute(
                "insert into openaibatching.spending (tenant, hour, endpoint, model, answers)"
                " values ('other', now() - interval '2 days', %s, 'gpt-4o', 1000)",
                [CHAT],
            )
        lines = [
            {"custom_id": str(n), "method": "POST", "url": CHAT, "body": chat(f"{n} " * 3000)}
            for n in range(10)
        ]
        content = "\n".join(map(json.dumps, lines))
        headers = {"Content-Type": "application/jsonl"}
        reply = await door.client.post("/v1/requests", content=content, headers=headers)
        assert [json.loads(line)["response"]["status_code"] for line in reply.iter_lines()] == [
            202
        ] * 10

        async def until_no_more_is_sent() -> dict[str, Any] | None:
            now = await stats(door)
            used_up = now["queue"] and now["queue"][0]["reason"] == "over_budget"
            return now if used_up and now["requests"]["in_progress"] == 0 else None

        now = await until(until_no_more_is_sent)
        paid = Decimal((await door.client.get("/v1/costs")).json()["total"]["paid"])
        batches = len(door.simulator.batches())
    assert 0 < now["requests"]["queued"] < 10
    assert limit <= paid <= limit + paid / batches


async def test_while_nobody_can_say_what_a_batch_costs_no_other_one_is_sent(
    ctx: Context, clock: Clock
) -> None:
    with_budget(ctx, "mine=1000")
    await admit(ctx, chat("one", **UNKNOWN), tenant="mine")
    assert await formed(ctx, clock) == 1
    await admit(ctx, chat("two", "gpt-4o-mini", **SHORT), tenant="mine")
    assert await formed(ctx, clock) == 0
    await admit(ctx, chat("two", "gpt-4o-mini", **SHORT), tenant="theirs")
    assert await formed(ctx, clock) == 1
    await drive(ctx, clock)


async def test_batches_go_together_while_together_they_cannot_pass_the_budget(
    ctx: Context, clock: Clock
) -> None:
    with_budget(ctx, str(2 * LONG_USD))
    for model in ("gpt-4o-mini", "gpt-4.1-nano", "gpt-4.1-mini"):
        await admit(ctx, chat("short", model, **SHORT))
    assert await formed(ctx, clock) == 3
    for n in range(2):
        await admit(ctx, chat(f"long {n}"))
        assert await formed(ctx, clock) == 1
    await admit(ctx, chat("one too many", "gpt-4o-mini", **SHORT))
    assert await formed(ctx, clock) == 0
    await drive(ctx, clock)


async def test_a_batch_that_was_made_before_there_was_a_budget_may_cost_anything(
    ctx: Context, clock: Clock
) -> None:
    await put(ctx, chat("before"))
    assert await formed(ctx, clock) == 1
    with_budget(ctx, "1000")
    await admit(ctx, chat("after", "gpt-4o-mini", **SHORT))
    assert await formed(ctx, clock) == 0
    await drive(ctx, clock)


async def test_the_halves_of_a_refused_batch_cost_at_most_what_the_whole_did(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    with_budget(ctx, "1000")
    await admit(ctx, *(chat(f"text {n}", **SHORT) for n in range(3)), chat("[[simulate:poison]]"))
    await drive(ctx, clock)
    parents = rows.execute(
        "select s.usd_most, (select sum(h.usd_most) from batch c join share h on h.batch_id = c.id"
        " where c.parent_id = b.id) from batch b join share s on s.batch_id = b.id"
        " where exists (select from batch c where c.parent_id = b.id)"
    ).fetchall()
    assert len(parents) == 2
    for whole, halves in parents:
        assert whole == halves
        assert LONG_USD < whole < 3 * LONG_USD


async def test_the_queue_says_that_it_waits_for_what_is_at_openai(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, lag=3600.0, batch_budget_usd_day="1000") as door:
        for text in ("sent", "waits"):
            assert (await door.client.post(CHAT, json=chat(text, **UNKNOWN))).status_code == 202

            async def sent() -> bool:
                return bool((await stats(door))["requests"]["in_progress"] == 1)

            await until(sent)

        async def waits() -> bool:
            now = await stats(door)
            return [group["reason"] for group in now["queue"]] == ["budget_at_openai"]

        await until(waits)
        assert (await stats(door))["budget"]["at_openai_most"] is None
        page = await all_metrics(door)
        assert 'openaibatching_budget_at_openai_usd{tenant="*"} +Inf' in page


@pytest.fixture
async def other(ctx: Context, database_url: str, clock: Clock) -> AsyncIterator[Context]:
    """A second server on the same database."""
    database = Database(database_url, connections_max=4)
    await database.open()
    second = Context(ctx.settings, database, Upstream(ctx.settings), clock)
    yield second
    await second.upstream.close()
    await database.close()


async def test_two_servers_do_not_both_send_the_last_batch(
    ctx: Context, other: Context, clock: Clock
) -> None:
    for server in (ctx, other):
        with_budget(server, "1000")
    for n in range(10):
        await admit(ctx, chat(f"{n}", **UNKNOWN), chat(f"{n}", "gpt-4o-mini", **UNKNOWN))
        clock.advance(60)
        both = await asyncio.gather(form_one(ctx), form_one(other))
        assert both.count(True) <= 1
        await drive(ctx, clock)
