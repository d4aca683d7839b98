"""Forming, watching and collecting, step by step, against OpenAI's stand-in."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from openaibatching.server.config.settings import UPSTREAM_CREATES_PER_HOUR
from openaibatching.server.domain.batch import OVERDUE
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.cleanup import clean_one
from openaibatching.server.pipeline.collect import _read_files, collect_one
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.reporting import queries
from openaibatching.simulator import Faults, Simulator, running
from support.steps import answer, chat, drive, look, put, said
from support.world import Clock, settings_for

Rows = psycopg.Connection[tuple[Any, ...]]


async def _submit(ctx: Context, clock: Clock) -> None:
    clock.advance(1)
    assert await form_one(ctx)
    assert await upload_one(ctx)
    assert await create_one(ctx)


async def test_each_model_and_endpoint_has_its_own_batch(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    await put(ctx, chat("a"), chat("b"), chat("c", model="gpt-4o-mini"))
    embedding = {"model": "text-embedding-3-small", "input": "d"}
    await put(ctx, embedding, endpoint="/v1/embeddings")
    await drive(ctx, clock)
    made = sorted((b["endpoint"], b["request_counts"]["total"]) for b in simulator.batches())
    assert made == [("/v1/chat/completions", 1), ("/v1/chat/completions", 2), ("/v1/embeddings", 1)]


async def test_the_line_that_is_measured_is_the_line_that_is_sent(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    await put(ctx, chat("ä\u2028\ud800 😀"), chat("b"))
    clock.advance(1)
    assert await form_one(ctx)
    assert await upload_one(ctx)
    measured = rows.execute("select bytes from batch").fetchone()
    assert measured == (simulator.files()[0]["bytes"],)


async def test_lines_that_openai_names_fail_alone_and_the_rest_is_answered(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(
        ctx, chat("good"), chat("bad [[simulate:invalid=model_not_found]]"), chat("fine"),
        chat("worse [[simulate:invalid=invalid_request]]"),
    )  # fmt: skip
    await drive(ctx, clock)
    good, bad, fine, worse = await look(ctx, requests)
    assert (said(good), said(fine)) == ("You said: good", "You said: fine")
    assert [r.state for r in (bad, worse)] == ["failed", "failed"]
    assert (bad.status_code, answer(bad)["error"]["code"]) == (400, "model_not_found")
    assert answer(worse)["error"]["code"] == "invalid_request"
    assert (good.attempts, bad.attempts) == (1, 0), "a refusal is no attempt"
    assert len(simulator.batches()) == 2


async def test_a_poisoned_batch_is_halved_to_its_culprit(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    texts = [f"text {n}" for n in range(64)]
    texts[37] += " [[simulate:poison]]"
    requests = await put(ctx, *(chat(text) for text in texts))
    await drive(ctx, clock)
    found = await look(ctx, requests)
    assert [r.state for r in found].count("completed") == 63
    assert found[37].state == "failed"
    assert found[37].status_code == 400
    extra = len(simulator.batches()) - 1
    assert extra <= 2 * 6 + 1, "2·log2(n) + 1"
    assert set(simulator.ledger.counts().values()) == {1}


@pytest.mark.parametrize("marker", ["status=500", "status=429", "status=0", "empty", "missing"])
async def test_a_line_that_fails_in_passing_is_sent_again(
    ctx: Context, clock: Clock, marker: str
) -> None:
    requests = await put(ctx, chat(f"[[simulate:{marker}*2]] once more"), chat("fine"))
    await drive(ctx, clock)
    again, fine = await look(ctx, requests)
    assert (again.state, again.attempts) == ("completed", 3)
    assert (fine.state, fine.attempts) == ("completed", 1)


@pytest.mark.parametrize(
    ("marker", "status", "code"),
    [
        ("status=500", 500, None),
        ("status=0", 502, "result_missing"),
        ("empty", 502, "result_missing"),
        ("missing", 502, "result_missing"),
        ("expired", 504, "batch_expired"),
        ("timeout", 504, "request_timeout"),
    ],
)
async def test_a_line_that_never_succeeds_fails_with_the_last_reason(
    ctx: Context, clock: Clock, simulator: Simulator, marker: str, status: int, code: str | None
) -> None:
    requests = await put(ctx, chat(f"[[simulate:{marker}]]"))
    await drive(ctx, clock)
    (failed,) = await look(ctx, requests)
    assert (failed.state, failed.attempts, failed.status_code) == ("failed", 3, status)
    assert "message" in answer(failed)["error"]
    if code:
        assert answer(failed)["error"]["code"] == code
    assert len(simulator.batches()) == 3


async def test_openais_own_refusal_of_a_line_is_final_at_once(ctx: Context, clock: Clock) -> None:
    requests = await put(ctx, chat("x", temperature=99))
    await drive(ctx, clock)
    (failed,) = await look(ctx, requests)
    assert (failed.state, failed.status_code, failed.attempts) == ("failed", 400, 1)


async def test_finished_lines_of_an_expired_batch_are_kept_and_the_rest_goes_again(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    bodies = [chat(f"n{n}") for n in range(30)]
    requests = await put(ctx, *bodies)
    simulator.faults = Faults(seed=3, expire=1.0)
    await _submit(ctx, clock)
    simulator.faults = Faults()
    await drive(ctx, clock)
    found = await look(ctx, requests)
    assert {r.state for r in found} == {"completed"}
    assert {r.attempts for r in found} == {1, 2}, "some came in time, some did not"
    assert set(simulator.ledger.counts().values()) == {1}


async def test_a_token_limit_is_learned_and_the_backlog_drains_below_it(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    simulator = Simulator(lag=0.0, enqueued_token_limits={"gpt-4o": 2500})
    with running(simulator) as base_url:
        await ctx.upstream.close()
        ctx.upstream = Upstream(settings_for(base_url, ctx.settings.data_dir))
        requests = await put(ctx, *(chat(f"{n} " + "word " * 400) for n in range(20)))
        await drive(ctx, clock)
    found = await look(ctx, requests)
    assert {(r.state, r.attempts) for r in found} == {("completed", 1)}
    assert rows.execute("select told from model_limit").fetchone() == (2500,)
    statuses = [batch["status"] for batch in simulator.batches()]
    assert statuses.count("failed") == 1, "the limit is met once and kept from then on"
    assert set(simulator.ledger.counts().values()) == {1}


async def test_two_thousand_creations_an_hour_are_not_passed(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    rows.execute(
        "insert into batch (state, endpoint, model, requests, bytes, tokens, completed, closed_at,"
        " attempted_at) select 'closed', 'e', 'm', 1, 1, 1, 1, now(), now()"
        f" from generate_series(1, {UPSTREAM_CREATES_PER_HOUR - 1})"
    )
    await put(ctx, chat("the last one"), chat("too many", model="gpt-4o-mini"))
    clock.advance(1)
    while await form_one(ctx) or await upload_one(ctx) or await create_one(ctx):
        pass
    assert len(simulator.batches()) == 1
    clock.advance(3600)
    while await form_one(ctx) or await upload_one(ctx) or await create_one(ctx):
        pass
    assert len(simulator.batches()) == 2


async def test_a_failed_look_says_nothing_about_the_batch(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(ctx, chat("patience"))
    await _submit(ctx, clock)
    simulator.faults = Faults(polls_fail=1.0)
    for _ in range(20):
        clock.advance(60)
        assert await watch_one(ctx)
    simulator.faults = Faults()
    await drive(ctx, clock)
    assert said((await look(ctx, requests))[0]) == "You said: patience"
    assert len(simulator.batches()) == 1


async def test_a_batch_that_never_ends_is_stopped_when_overdue_and_sent_again(
    ctx: Context, clock: Clock, simulator: Simulator
) -> None:
    requests = await put(ctx, chat("stuck"))
    simulator.faults = Faults(stuck=1.0)
    await _submit(ctx, clock)
    simulator.faults = Faults()
    clock.advance(OVERDUE.total_seconds() + 60)
    await drive(ctx, clock)
    assert said((await look(ctx, requests))[0]) == "You said: stuck"
    assert sorted(b["status"] for b in simulator.batches()) == ["cancelled", "completed"]


async def test_a_second_collection_changes_nothing(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    requests = await put(ctx, chat("one"), chat("two"))
    await _submit(ctx, clock)
    clock.advance(60)
    assert await watch_one(ctx)
    # The results are stored, and then the server dies before it can say so.
    async with ctx.leases.take("ended") as batch:
        assert batch is not None
        await _read_files(ctx, batch)
        await batch.release(0)
    first = await look(ctx, requests)
    assert await collect_one(ctx)
    assert await look(ctx, requests) == first
    books = rows.execute("select completed, failed, requeued, requests from batch").fetchone()
    assert books == (2, 0, 0, 2)


async def test_cleaning_up_is_patient_anew_with_each_file_that_is_gone(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    await put(ctx, chat("one"))
    await _submit(ctx, clock)
    clock.advance(60)
    assert await watch_one(ctx)
    assert await collect_one(ctx)
    rows.execute("update batch set tries = 9")
    simulator.gate("DELETE /files/{id}", when="before").release()
    simulator.gate("DELETE /files/{id}", when="before").cut()
    assert await clean_one(ctx)
    assert len(simulator.files()) == 1
    assert rows.execute("select state, tries from batch").fetchone() == ("collected", 1)


async def test_every_transition_is_in_the_history(ctx: Context, clock: Clock, rows: Rows) -> None:
    await put(ctx, chat("one"))
    await drive(ctx, clock)
    assert rows.execute("select from event where request_seq is not null").fetchall() == []
    batch = rows.execute(
        "select new_state from event where request_seq is null order by seq"
    ).fetchall()
    assert [state for (state,) in batch] == [
        "claimed", "uploading", "uploaded", "creating", "submitted", "ended", "collected", "closed",
    ]  # fmt: skip


async def test_what_ended_long_ago_is_forgotten_and_the_counts_follow(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    await put(ctx, chat("old"))
    await drive(ctx, clock)
    clock.advance(31 * 86_400)
    await put(ctx, chat("new"))
    async with ctx.database.transaction() as conn:
        assert await store.forget(conn, 30, 100, clock()) == 1
        await store.fold_tally(conn)
        assert await queries.read_tally(conn) == {("request", "queued"): 1, ("batch", "closed"): 1}
    assert rows.execute("select count(*) from body").fetchone() == (1,)
    clock.advance(2 * 86_400)
    async with ctx.database.transaction() as conn:
        await store.forget(conn, 30, 100, clock())
    assert rows.execute("select count(*) from batch").fetchone() == (0,)
    assert rows.execute("select count(*) from event where batch_id is not null").fetchone() == (0,)


async def test_unknown_lines_are_an_event_and_harm_nobody(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    requests = await put(ctx, chat("[[simulate:unknown_custom_id*1]] whose"), chat("mine"))
    await drive(ctx, clock)
    assert {r.state for r in await look(ctx, requests)} == {"completed"}
    notes = [note for (note,) in rows.execute("select note from event").fetchall() if note]
    assert any("belong to no request of ours" in note for note in notes)


async def test_how_long_the_oldest_request_waits_is_known(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with ctx.database.transaction() as conn:
        assert await queries.oldest_queued_s(conn) == 0
    await put(ctx, chat("a"), chat("b", model="gpt-4o-mini"))
    rows.execute(
        "update queued set queued_at = now() - interval '1 hour' from route"
        " where route.id = route_id and model = 'gpt-4o'"
    )
    async with ctx.database.transaction() as conn:
        assert 3600 <= await queries.oldest_queued_s(conn) < 3700
