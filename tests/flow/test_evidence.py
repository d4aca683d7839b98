"""What is paid for is never bought again by itself: every free road comes first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.simulator import Faults
from support.postgres import ONE_KIND
from support.steps import answer, chat, drive, look, openai_of, put, said, turn
from support.world import Clock

Rows = psycopg.Connection[tuple[Any, ...]]
HOUR_S = 3600.0
pytestmark = ONE_KIND


async def test_file_ids_that_come_hours_late_are_waited_for_and_nothing_is_sent_twice(
    ctx: Context, clock: Clock
) -> None:
    faults = Faults(late_file_ids=1.0, late_file_ids_s=5 * HOUR_S)
    async with openai_of(ctx, clock, lag=60.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"late {n}") for n in range(20)))
        await drive(ctx, clock, 60)
        found = await look(ctx, requests)
        assert {(r.state, r.attempts) for r in found} == {("completed", 1)}
        assert len(simulator.batches()) == 1
        assert set(simulator.ledger.counts().values()) == {1}
        assert simulator.files() == []


async def test_an_expired_batch_that_counts_nothing_and_charges_is_waited_for(
    ctx: Context, clock: Clock
) -> None:
    faults = Faults(expires_done=1.0, late_file_ids=1.0, late_file_ids_s=5 * HOUR_S)
    async with openai_of(ctx, clock, lag=60.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"expired {n}") for n in range(5)))
        await drive(ctx, clock, 60)
        assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
        assert set(simulator.ledger.counts().values()) == {1}


async def test_usage_that_comes_after_the_end_is_evidence_too(ctx: Context, clock: Clock) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_poll_s": 30.0})
    faults = Faults(
        missing_fields=1.0, expires_done=1.0, late_file_ids=1.0, late_file_ids_s=5 * HOUR_S
    )
    async with openai_of(ctx, clock, lag=60.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"late usage {n}") for n in range(5)))
        await turn(ctx, clock, rounds=10, round_s=30.0)
        for batch in simulator.engine.store.batches():
            batch.sparse = False  # it tells its usage now
        await drive(ctx, clock, 60)
        assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
        assert set(simulator.ledger.counts().values()) == {1}


async def test_a_byte_that_breaks_on_the_way_is_read_again_though_the_files_came_late(
    ctx: Context, clock: Clock
) -> None:
    faults = Faults(late_file_ids=1.0, late_file_ids_s=3 * HOUR_S, garbled_download=1.0)
    async with openai_of(ctx, clock, lag=60.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"broken {n}") for n in range(5)))
        while not simulator.requests.count("GET /files/{id}/content"):
            await turn(ctx, clock, rounds=1)
        simulator.faults = Faults()
        await drive(ctx, clock)
        assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
        assert set(simulator.ledger.counts().values()) == {1}


async def test_a_file_that_is_gone_is_asked_for_by_the_name_that_openai_has_now(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        requests = await put(ctx, chat("by another name"))
        for step in (form_one, upload_one, create_one, watch_one):
            clock.advance(HOUR_S)
            assert await step(ctx)
        (batch,) = simulator.engine.store.batches()
        file = simulator.engine.store._files.pop(str(batch.output_file_id))
        file.id = batch.output_file_id = "file-renamed"
        simulator.engine.store.add_file(file)
        await drive(ctx, clock)
        assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
        assert simulator.requests.count("GET /files/{id}/content") == 2


@pytest.mark.parametrize("faults", [Faults(), Faults(expires_done=1.0)], ids=["done", "expired"])
async def test_a_batch_that_tells_nothing_is_looked_at_once_more_before_it_is_sent_again(
    ctx: Context, clock: Clock, faults: Faults
) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_poll_s": 30.0})
    faults = replace(faults, missing_fields=1.0, late_file_ids=1.0, late_file_ids_s=900.0)
    async with openai_of(ctx, clock, lag=60.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"silent {n}") for n in range(5)))
        await turn(ctx, clock, rounds=10, round_s=30.0)
        clock.advance(HOUR_S)  # no server looked meanwhile
        await drive(ctx, clock)
        assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
        assert set(simulator.ledger.counts().values()) == {1}
        assert simulator.files() == []


@pytest.mark.parametrize(
    ("faults", "marker"),
    [
        (Faults(null_file_id=1.0), ""),
        (Faults(unreadable_custom_ids=1.0), ""),
        (Faults(), " [[simulate:lost]]"),
    ],
    ids=["no file ever", "no custom_id can be read", "a counted line is in no file"],
)
async def test_what_openai_executed_and_does_not_show_is_held_told_and_left_to_a_person(
    ctx: Context, clock: Clock, rows: Rows, faults: Faults, marker: str
) -> None:
    async with openai_of(ctx, clock, lag=60.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"gone {n}{marker}") for n in range(3)))
        await turn(ctx, clock, rounds=120, round_s=300)
        assert {r.state for r in await look(ctx, requests)} == {"in_progress"}
        reason = rows.execute("select trouble from batch").fetchone()
        assert reason is not None
        assert "sent again" in reason[0], "the page says why it is held"
        async with ctx.database.transaction() as conn:
            assert len(await store.stuck_batches(conn, ctx.now())) == 1
        await drive(ctx, clock, 300)
        found = await look(ctx, requests)
        assert {(r.state, r.status_code) for r in found} == {("failed", 502)}
        assert {answer(r)["error"]["code"] for r in found} == {"result_missing"}
        assert len(simulator.batches()) == 1
        assert set(simulator.ledger.counts().values()) == {1}
        left = [file["purpose"] for file in simulator.files()]
        unreadable = faults.unreadable_custom_ids > 0
        assert left == (["batch_output"] if unreadable else []), "a person may read what we cannot"


async def test_lines_that_openai_neither_shows_nor_counts_go_again(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        requests = await put(ctx, chat("dropped [[simulate:missing*1]]"), chat("fine"))
        await drive(ctx, clock)
        dropped, fine = await look(ctx, requests)
        assert (dropped.state, dropped.attempts, fine.attempts) == ("completed", 2, 1)
        assert set(simulator.ledger.counts().values()) == {1}


async def test_a_broken_line_that_says_whose_it_is_goes_again_alone(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=60.0):
        requests = await put(ctx, chat("cut off " + "long " * 60 + "[[simulate:garbled*1]]"))
        await drive(ctx, clock)
        (cut,) = await look(ctx, requests)
        assert (cut.state, cut.attempts) == ("completed", 2)


async def test_a_batch_that_vanished_half_done_is_not_bought_again(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=30 * HOUR_S) as simulator:
        requests = await put(ctx, *(chat(f"vanished {n}") for n in range(4)))
        await turn(ctx, clock, rounds=20, round_s=HOUR_S)
        executed = sum(simulator.ledger.counts().values())
        assert executed > 0
        simulator.engine.store._batches.clear()
        await drive(ctx, clock, HOUR_S)
        assert {r.state for r in await look(ctx, requests)} == {"failed"}
        assert simulator.batches() == []


async def test_an_answer_that_comes_after_all_is_the_requests(ctx: Context, clock: Clock) -> None:
    faults = Faults(late_file_ids=1.0, late_file_ids_s=11 * HOUR_S)
    async with openai_of(ctx, clock, lag=60.0, faults=faults):
        requests = await put(ctx, chat("very late"))
        await drive(ctx, clock, 300)
        (late,) = await look(ctx, requests)
        assert said(late) == "You said: very late"
