"""The creations of an hour are shared in turns: no tenant takes those of another."""

from __future__ import annotations

from typing import Any

import psycopg

from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.reporting import queries
from openaibatching.simulator import Simulator
from support.steps import STEPS, chat, drive, look, put, said
from support.world import Clock

Rows = psycopg.Connection[tuple[Any, ...]]


def used(rows: Rows, clock: Clock, tenant: str, n: int) -> None:
    """The tenant has had so many batches created in this hour."""
    rows.execute(
        "with made as (insert into batch (state, endpoint, model, requests, bytes, tokens,"
        " completed, closed_at, attempted_at) select 'closed', 'e', 'm', 1, 1, 1, 1, %(at)s, %(at)s"
        " from generate_series(1, %(n)s) returning id)"
        " insert into share (tenant, batch_id, requests) select %(tenant)s, id, 1 from made",
        {"n": n, "tenant": tenant, "at": clock()},
    )


def formed(rows: Rows) -> list[tuple[str, str]]:
    """(tenant, model) of the batches that were formed, in their order."""
    return rows.execute(
        "select tenant, model from share join batch on batch.id = batch_id"
        " where state <> 'closed' order by share.seq"
    ).fetchall()


async def test_a_tenant_with_many_models_leaves_creations_to_those_who_come_later(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    used(rows, clock, "many", 1598)
    await put(ctx, *(chat("x", f"m{n}") for n in range(40)), tenant="many")
    clock.advance(60)
    while await form_one(ctx) or await upload_one(ctx) or await create_one(ctx):
        pass
    before = len(simulator.batches())
    assert before <= 3, "four fifths of 2,000 are used up"
    await put(ctx, *(chat("y", f"m{n}") for n in range(50, 60)), tenant="few")
    clock.advance(60)
    while await form_one(ctx) or await upload_one(ctx) or await create_one(ctx):
        pass
    assert len(simulator.batches()) == before + 10
    clock.advance(3600)
    while await form_one(ctx) or await upload_one(ctx) or await create_one(ctx):
        pass
    assert len(simulator.batches()) == 50


async def test_batches_are_formed_in_turns_however_much_is_queued_before(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    await put(ctx, *(chat("x", f"m{n}") for n in range(40)), tenant="many")
    clock.advance(60)
    await put(ctx, chat("y", "own"), tenant="late")
    clock.advance(60)
    for _ in range(2):
        assert await form_one(ctx)
    assert ("late", "own") in formed(rows)
    while await form_one(ctx):
        pass
    assert len(formed(rows)) == 17, "what waits for its upload would stand before the others'"


async def test_a_batch_with_a_tenant_of_either_kind_is_formed_for_the_one_that_may(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    used(rows, clock, "much", 1700)
    await put(ctx, chat("x"), tenant="much")
    clock.advance(60)
    assert not await form_one(ctx)
    await put(ctx, chat("y"), tenant="few")
    rows.execute("update queued set queued_at = %s where tenant = 'few'", [clock()])
    assert not await form_one(ctx), "it waits for company like any other"
    clock.advance(60)
    assert await form_one(ctx)
    assert sorted(formed(rows)) == [("few", "gpt-4o"), ("much", "gpt-4o")]


async def test_a_flush_is_limited_to_half_of_the_share(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_linger_s": 3600.0})

    async def flushed(tenant: str, text: str) -> bool:
        await put(ctx, chat(text, tenant), tenant=tenant)
        async with ctx.database.transaction() as conn:
            await queries.wish_flush(conn, tenant)
        clock.catch_up()
        return await form_one(ctx)

    assert await flushed("hasty", "one")
    used(rows, clock, "hasty", 1400)
    assert not await flushed("hasty", "two")
    assert await flushed("calm", "one")
    clock.advance(3599)
    assert not await form_one(ctx)
    clock.advance(2)
    assert await form_one(ctx), "by then the others are an hour old"


async def test_a_poisoned_line_costs_the_creations_of_its_own_tenant(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    others = []
    for n in range(8):  # so that each half of the file has lines of all three
        text = "[[simulate:poison]]" if n == 4 else f"bad {n}"
        await put(ctx, chat(text), chat(f"bad too {n}"), tenant="bad")
        for tenant in ("good", "fine"):
            others += await put(ctx, chat(f"good {n}"), tenant=tenant)
    await drive(ctx, clock)
    assert {said(request)[:8] for request in await look(ctx, others)} == {"You said"}
    rows_ = rows.execute("select tenant, count(*) from share group by tenant").fetchall()
    batches: dict[str, int] = dict(rows_)
    assert batches["bad"] >= 7
    assert max(batches["good"], batches["fine"]) <= 3


async def test_halves_wait_while_their_tenants_share_is_used_up(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    used(rows, clock, "bad", 1597)
    await put(ctx, *(chat(f"bad {n}") for n in range(7)), chat("[[simulate:poison]]"), tenant="bad")
    clock.advance(60)
    for _ in range(20):
        for _ in range(3):
            await _all_steps(ctx)
        clock.advance(60)
    assert len(simulator.batches()) <= 4
    [good] = await put(ctx, chat("good", "gpt-4o-mini"), tenant="good")
    for _ in range(3):
        clock.advance(60)
        await _all_steps(ctx)
    assert (await look(ctx, [good]))[0].state == "completed"
    clock.advance(3600)
    await drive(ctx, clock)


async def _all_steps(ctx: Context) -> None:

    for step in STEPS:
        while await step(ctx):
            pass
