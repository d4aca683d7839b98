"""Calls whose outcome nobody knows: found again and adopted, never paid twice."""

from __future__ import annotations

import asyncio

import pytest

from conftest import TEMPLATE
from openaibatching.server.database.pool import Database
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.simulator import Faults, Simulator
from support.postgres import ONE_KIND, Cluster
from support.steps import chat, drive, look, openai_of, put, said
from support.world import Clock

pytestmark = ONE_KIND


async def _ready_to_create(ctx: Context, clock: Clock) -> None:
    clock.advance(1)
    assert await form_one(ctx)
    assert await upload_one(ctx)


async def test_a_create_whose_reply_is_lost_is_adopted(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(ctx, chat("one"), chat("two"))
    simulator.faults = Faults(lose_create_reply=1.0)
    await _ready_to_create(ctx, clock)
    assert await create_one(ctx)
    simulator.faults = Faults()
    await drive(ctx, clock)
    assert [said(r) for r in await look(ctx, requests)] == ["You said: one", "You said: two"]
    assert len(simulator.batches()) == 1
    assert set(simulator.ledger.counts().values()) == {1}


async def test_a_create_that_answers_500_after_acting_is_adopted(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(ctx, chat("one"))
    simulator.faults = Faults(create_500_after_acting=1.0)
    await _ready_to_create(ctx, clock)
    assert await create_one(ctx)
    simulator.faults = Faults()
    await drive(ctx, clock)
    assert said((await look(ctx, requests))[0]) == "You said: one"
    assert len(simulator.batches()) == 1


async def test_a_create_that_never_acted_is_sent_again_only_after_settling(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    await put(ctx, chat("one"))
    simulator.faults = Faults(error_500=1.0)
    clock.advance(1)
    assert await form_one(ctx)
    simulator.faults = Faults()
    assert await upload_one(ctx)
    simulator.faults = Faults(error_500=1.0)
    assert await create_one(ctx)
    simulator.faults = Faults()
    asked = simulator.requests.count("POST /batches")
    clock.advance(ctx.settings.batch_settle_s / 2)
    await create_one(ctx)
    assert simulator.requests.count("POST /batches") == asked, "it did not wait BATCH_SETTLE_S"
    await drive(ctx, clock)
    assert len(simulator.batches()) == 1


async def test_a_batch_is_found_among_five_hundred_foreign_ones(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(ctx, chat("mine"))
    simulator.faults = Faults(lose_create_reply=1.0)
    await _ready_to_create(ctx, clock)
    assert await create_one(ctx)
    simulator.faults = Faults()
    foreign = await ctx.upstream._client.files.create(
        file=("foreign.jsonl", b'{"custom_id":"a"}\n'), purpose="batch"
    )
    for _ in range(500):
        await ctx.upstream._client.batches.create(
            input_file_id=foreign.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    await drive(ctx, clock)
    assert said((await look(ctx, requests))[0]) == "You said: mine"
    assert len(simulator.batches()) == 501


async def test_an_upload_whose_reply_is_lost_leaves_no_file_behind(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(ctx, chat("one"))
    simulator.faults = Faults(lose_upload_reply=1.0)
    clock.advance(1)
    assert await form_one(ctx)
    assert await upload_one(ctx)
    simulator.faults = Faults()
    await drive(ctx, clock)
    assert said((await look(ctx, requests))[0]) == "You said: one"
    assert simulator.files() == []


@pytest.mark.parametrize("seed", range(3))
async def test_mixed_trouble_ends_with_every_body_executed_once(
    ctx: Context, clock: Clock, simulator: Simulator, seed: int
) -> None:
    bodies = [chat(f"question {n}", model=f"gpt-4o-{n % 3}") for n in range(60)]
    requests = await put(ctx, *bodies)
    simulator.faults = Faults(
        seed=seed, lose_create_reply=0.3, lose_upload_reply=0.3, create_500_after_acting=0.2,
        error_429=0.1, error_500=0.1, error_502=0.1, error_503=0.1, html_instead_of_json=0.1,
        reset=0.1, truncated_download=0.3, garbled_download=0.1, content_502=0.3,
        u2028_line=0.2, duplicate_line=0.2, unknown_custom_id=0.1, empty_file_id=0.5,
        lying_counts=0.5, unknown_status=0.3, unknown_fields=0.5,
    )  # fmt: skip
    await drive(ctx, clock)
    for body, request in zip(bodies, await look(ctx, requests), strict=True):
        assert request.state == "completed"
        assert said(request).replace("\u2028", "") == f"You said: {body['messages'][0]['content']}"
    spoiled = simulator.ledger.spoiled
    for sha, executed in simulator.ledger.counts().items():
        assert executed == 1 + spoiled.get(sha, 0), "paid twice without need"
    assert simulator.files() == []


async def test_a_create_that_acts_after_all_hope_is_stopped_and_leaves_no_file(
    ctx: Context, clock: Clock
) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_settle_s": 5.0, "batch_poll_s": 30.0})
    async with openai_of(
        ctx, clock, lag=600, faults=Faults(late_create=1.0, late_s=60), cancel_s=120
    ) as simulator:
        requests = await put(ctx, *(chat(f"late {n}") for n in range(10)))
        clock.advance(1)
        await _ready_to_create(ctx, clock)
        assert await create_one(ctx)
        simulator.faults = Faults()
        await drive(ctx, clock)
        found = await look(ctx, requests)
        assert sorted(b["status"] for b in simulator.batches()) == ["cancelled", "completed"]
        assert simulator.files() == []
    assert [said(r) for r in found] == [f"You said: late {n}" for n in range(10)]


async def test_two_services_on_one_project_find_their_own_batches(
    ctx: Context, clock: Clock, cluster: Cluster, simulator: Simulator
) -> None:
    with cluster.database(TEMPLATE) as url:
        database = Database(url, connections_max=4)
        await database.open()
        other = Context(ctx.settings, database, Upstream(ctx.settings), clock)
        ours = await put(ctx, *(chat(f"{n}", model=f"gpt-4o-{n}") for n in range(5)))
        theirs = await put(other, *(chat(f"{n}", model=f"gpt-4o-{n}") for n in range(5)))
        simulator.faults = Faults(seed=3, lose_create_reply=0.6, lose_upload_reply=0.6)
        await asyncio.gather(drive(ctx, clock), drive(other, clock))
        for context, requests in ((ctx, ours), (other, theirs)):
            found = await look(context, requests)
            assert [said(r) for r in found] == [f"You said: {n}" for n in range(5)]
        await other.upstream.close()
        await database.close()
    assert len(simulator.batches()) == 10
    # The same bodies, asked of two services: each has paid once.
    assert set(simulator.ledger.counts().values()) == {2}
    assert simulator.files() == []


async def test_an_hour_of_failing_polls_is_a_few_dozen_looks_and_no_second_batch(
    ctx: Context, clock: Clock
) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_poll_s": 30.0})
    async with openai_of(ctx, clock, lag=60) as simulator:
        requests = await put(ctx, chat("an hour"))
        clock.advance(1)
        await _ready_to_create(ctx, clock)
        assert await create_one(ctx)
        simulator.faults = Faults(polls_fail=1.0)
        for _ in range(3600):
            clock.advance(1)
            while await watch_one(ctx):
                pass
        looks = simulator.requests.count("GET /batches/{id}")
        assert 3600 / 150 <= looks <= 3600 / 30
        simulator.faults = Faults()
        await drive(ctx, clock)
        assert len(simulator.batches()) == 1
    assert said((await look(ctx, requests))[0]) == "You said: an hour"
