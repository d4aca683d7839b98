"""What an operator is told: events with ids, each once, and alarms."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import psycopg
from structlog.testing import capture_logs

from openaibatching.server.app import Service
from openaibatching.server.domain.batch import OVERDUE
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.steps import STEPS
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.worker import Worker
from openaibatching.simulator import Faults, Simulator
from support.door import WAIT
from support.postgres import ONE_KIND
from support.steps import chat, drive, openai_of, put
from support.world import Clock, http

pytestmark = ONE_KIND

Rows = psycopg.Connection[tuple[object, ...]]
Events = list[Any]


def names(events: Events) -> list[str]:
    return [event["event"] for event in events]


def only(events: Events, name: str) -> Any:
    [event] = [event for event in events if event["event"] == name]
    return event


async def test_a_batch_tells_its_way_with_both_its_ids(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    await put(ctx, chat("one"), chat("two [[simulate:status=400]]"))
    with capture_logs() as events:
        await drive(ctx, clock)
    assert names(events) == [
        "batch_formed", "batch_submitted", "batch_ended", "batch_collected", "batch_closed",
    ]  # fmt: skip
    [upstream] = simulator.batches()
    assert only(events, "batch_submitted")["upstream_batch"] == upstream["id"]
    assert len({event["batch"] for event in events[1:]}) == 1
    books = only(events, "batch_collected")
    assert [books[n] for n in ("requests", "completed", "failed", "requeued")] == [2, 1, 1, 0]


async def test_an_adopted_batch_says_so(ctx: Context, clock: Clock) -> None:
    await put(ctx, chat("one"))
    with capture_logs() as events:
        async with openai_of(ctx, clock, faults=Faults(lose_create_reply=1.0)) as simulator:
            await drive(ctx, clock)
            [upstream] = simulator.batches()
    told = names(events)
    assert told.index("create_unknown") < told.index("batch_adopted")
    assert only(events, "create_unknown")["error"] == "UpstreamUnknown"
    assert only(events, "batch_adopted")["upstream_batch"] == upstream["id"]


async def test_refusals_and_what_is_done_about_them_are_told_without_their_texts(
    ctx: Context, clock: Clock
) -> None:
    await put(ctx, chat("one"), chat("two [[simulate:invalid=invalid_request]]"))
    await put(ctx, *(chat(f"{n} [[simulate:poison]]", model="gpt-4o-mini") for n in range(2)))
    await put(ctx, *(chat(f"{n} " + "word " * 60, model="gpt-5") for n in range(3)))
    limits = {"gpt-5": 150}
    with capture_logs() as events:
        async with openai_of(ctx, clock, enqueued_token_limits=limits):
            await drive(ctx, clock)
    verdicts = Counter(e["verdict"] for e in events if e["event"] == "batch_refused")
    assert verdicts == {"culprits": 3, "halve": 1, "tokenlimit": 1}
    assert only(events, "batch_halved")["requests"] == 2
    assert only(events, "limit_learned") == {
        "event": "limit_learned", "log_level": "info", "model": "gpt-5", "tokens": 150,
    }  # fmt: skip
    assert "word" not in str(events)
    assert "simulate" not in str(events)


async def test_what_expired_and_what_goes_again_is_told(ctx: Context, clock: Clock) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_attempts_max": 20})
    await put(ctx, *(chat(f"{n}") for n in range(20)))
    with capture_logs() as events:
        async with openai_of(ctx, clock, lag=4 * 3600, faults=Faults(expire=0.7, seed=1)):
            await drive(ctx, clock, 3600)
    assert "expired" in [e.get("status") for e in events if e["event"] == "batch_ended"]
    requeued = [e["requests"] for e in events if e["event"] == "requests_requeued"]
    assert sum(requeued) > 0
    books = [e["requeued"] for e in events if e["event"] == "batch_collected"]
    assert sum(books) == sum(requeued)


async def test_a_stuck_batch_is_an_alarm_and_one_line(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with openai_of(ctx, clock, faults=Faults(stuck=1.0, polls_fail=1.0), lag=60.0):
        await put(ctx, chat("stuck"))
        clock.advance(1)
        for step in (form_one, upload_one, create_one):
            assert await step(ctx)
        worker = Worker(ctx, STEPS)
        with capture_logs() as events:
            await worker.keep_house()
            clock.advance(OVERDUE.total_seconds() + 1)
            for _ in range(3):
                await worker.keep_house()
    stuck = only(events, "batch_stuck")
    [(batch,)] = rows.execute("select id from batch").fetchall()
    assert (stuck["id"], stuck["state"], stuck["log_level"]) == (batch, "submitted", "error")
    async with ctx.database.transaction() as conn:
        assert [b.id for b in await store.stuck_batches(conn, clock())] == [batch]


def sample(page: str, metric: str) -> float:
    """The value of one line of the metrics page."""
    found = re.search(rf"^{re.escape(metric)} (\S+)$", page, re.MULTILINE)
    assert found, f"no {metric} in {page}"
    return float(found[1])


async def test_the_metrics_count_events_and_errors_and_know_the_last_success(
    service: Service, simulator: Simulator
) -> None:
    async with http(service) as client:
        before = (await client.get("/metrics")).text
        simulator.faults = Faults(error_503=0.5, seed=2)
        reply = await client.post("/v1/chat/completions", json=chat("count me"), headers=WAIT)
        assert reply.status_code == 200
        after = (await client.get("/metrics")).text
    submitted = 'openaibatching_events_total{event="batch_submitted"}'
    assert sample(after, submitted) >= 1
    assert submitted not in before or sample(after, submitted) > sample(before, submitted)
    assert sample(after, "openaibatching_upstream_last_success_timestamp_seconds") > 1.7e9
    assert 'openaibatching_upstream_errors_total{kind="UpstreamUnknown",status="503"}' in after
    assert sample(after, "openaibatching_creations_last_hour") == 1
    assert sample(after, 'openaibatching_stuck_batches{status="submitted"}') == 0
