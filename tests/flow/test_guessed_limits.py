"""What is known of token limits only by guesses: it passes soon, and condemns nobody."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from openaibatching.server.domain.view import View
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.reporting import presenters, queries
from openaibatching.server.reporting.forecast import Forecast
from openaibatching.simulator import Simulator
from openaibatching.simulator.engine.account import Account
from support.steps import STEPS, answer, chat, drive, look, openai_of, put
from support.world import Clock

Rows = psycopg.Connection[tuple[object, ...]]
LIMIT, LAG_S, HOUR_S = 1000, 600.0, 3600.0


@pytest.fixture
async def openai(ctx: Context, clock: Clock) -> AsyncIterator[Simulator]:
    """It takes 1,000 tokens of gpt-4o at once, and 10 minutes for a batch."""
    settings = ctx.settings.model_copy(update={"batch_poll_s": 30.0})
    object.__setattr__(ctx, "settings", settings)
    async with openai_of(
        ctx, clock, lag=LAG_S, enqueued_token_limits={"gpt-4o": LIMIT}
    ) as simulator:
        yield simulator


def image(size: int) -> dict[str, Any]:
    """A picture of 1,024 x 1,024 pixels whose file has `size` bytes."""
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 1024, 1024) + b"\x08\2\0\0\0"
    url = "data:image/png;base64," + base64.b64encode(head + b"\0" * size).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def refused(simulator: Simulator) -> int:
    """How many batches OpenAI has refused."""
    return sum(batch["status"] == "failed" for batch in simulator.batches())


# ----- somebody else uses the account -----


async def test_a_short_use_of_the_account_by_others_is_forgotten_within_minutes(
    ctx: Context, clock: Clock, openai: Simulator, rows: Rows
) -> None:
    openai.account = Account(other_tokens=LIMIT, other_tokens_s=120)
    requests = await put(ctx, *(chat(f"{n} " + "word " * 70) for n in range(8)))
    begun = clock()
    await drive(ctx, clock)
    print(
        [
            (b["status"], b["request_counts"]["total"], b["created_at"] - begun.timestamp())
            for b in openai.batches()
        ]
    )
    assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
    assert len(openai.batches()) <= 4, "8 requests fit at once; the guess was half of that"
    assert (clock() - begun).total_seconds() < LAG_S + 600
    assert rows.execute("select told, lowered from model_limit").fetchall() == [(LIMIT, None)]


async def test_a_long_use_by_others_costs_few_tries_and_then_batches_double(
    ctx: Context, clock: Clock, openai: Simulator, rows: Rows
) -> None:
    openai.account = Account(other_tokens=LIMIT, other_tokens_s=6 * HOUR_S)
    requests = await put(ctx, *(chat(f"{n} " + "word " * 70) for n in range(27)))
    await drive(ctx, clock, round_s=60)
    assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 1)}
    assert refused(openai) < 60, "no more than one try in ten minutes, and some at the start"
    print(
        [
            (b["status"], b["request_counts"]["total"], b["created_at"] - clock().timestamp())
            for b in openai.batches()
        ]
    )
    sizes = [b["request_counts"]["total"] for b in openai.batches() if b["status"] == "completed"]
    assert len(sizes) <= 9, "27 requests, nine of which fit at once, begin with one"
    assert set(openai.ledger.counts().values()) == {1}


async def test_a_refusal_beside_our_own_batches_keeps_what_openai_has_taken(
    ctx: Context, clock: Clock, openai: Simulator, rows: Rows
) -> None:
    rows.execute(
        "insert into model_limit (model, told, told_at) values ('gpt-4o', %s, %s)",
        [LIMIT, clock()],
    )
    first = await put(ctx, chat("first " + "word " * 300))
    await _settle(ctx, clock, 90)
    openai.account = Account(other_tokens=LIMIT // 2, other_tokens_s=300)
    second = await put(ctx, chat("second " + "word " * 300))
    await _settle(ctx, clock, 90)
    [(guess,)] = rows.execute("select guess_at(l, %s) from model_limit l", [clock()]).fetchall()
    assert 400 < int(str(guess)) < LIMIT, "above what it has of ours"
    await drive(ctx, clock)
    assert {r.state for r in await look(ctx, [*first, *second])} == {"completed"}


@pytest.mark.parametrize(("told", "limit"), [(None, None), (LIMIT, LIMIT)])
async def test_a_model_that_is_held_for_something_else_has_no_guess(
    ctx: Context, rows: Rows, told: int | None, limit: int | None
) -> None:
    rows.execute(
        "insert into model_limit (model, held_for, told, told_at) values"
        " ('gpt-4o', 'insufficient_quota', %s::bigint, case when %s::bigint > 0 then now() end)",
        [told, told],
    )
    known = "select guess_at(l, now()), limit_at(l, now()) from model_limit l"
    assert rows.execute(known.encode()).fetchall() == [(None, limit)]


async def _settle(ctx: Context, clock: Clock, seconds: float) -> None:
    """Whatever happens within `seconds`, in rounds of 30."""
    for _ in range(int(seconds // 30)):
        clock.advance(30)
        for step in STEPS:
            while await step(ctx):
                pass


# ----- the estimates of a route are corrected -----


async def test_the_estimates_of_a_route_are_corrected_by_what_openai_counts(
    ctx: Context, clock: Clock, openai: Simulator, rows: Rows
) -> None:
    # Half of the characters have six bytes in the body; OpenAI counts each as a quarter token here.
    requests = await put(ctx, *(chat(f"{n:02}" + "\u4e2d" * 199 + "x" * 199) for n in range(90)))
    rows.execute(
        "insert into model_limit (model, told, told_at) values ('gpt-4o', %s, %s)",
        [LIMIT, clock()],
    )
    await drive(ctx, clock)
    assert {r.state for r in await look(ctx, requests)} == {"completed"}
    sizes = [batch["request_counts"]["total"] for batch in openai.batches()]
    assert sizes[0] == 2, "estimated at 370 tokens each"
    assert max(sizes) in (7, 8, 9), "100 tokens each, and 950 are used"
    assert refused(openai) == 0


async def test_images_share_a_batch_by_what_they_cost(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    rows.execute(
        "insert into model_limit (model, told, told_at) values ('gpt-4o', 90000, %s)", [clock()]
    )
    body = chat("x")
    for n in range(30):
        body["messages"] = [{"role": "user", "content": [{"type": "text", "text": str(n)},
                                                         image(100_000)]}]  # fmt: skip
        await put(ctx, body)
    clock.advance(60)
    assert await form_one(ctx)
    assert rows.execute("select requests from batch").fetchall() == [(30,)]


# ----- nobody is condemned by an estimate -----


async def test_an_image_waits_for_a_day_behind_others_and_is_answered(
    ctx: Context, clock: Clock, openai: Simulator, rows: Rows
) -> None:
    openai.account = Account(other_tokens=LIMIT, other_tokens_s=20 * HOUR_S)
    body = chat("x", messages=[{"role": "user", "content": [image(500)]}])
    [request] = await put(ctx, body)
    rows.execute("update queued set tokens = 5000")
    await drive(ctx, clock, round_s=300)
    [request] = await look(ctx, [request])
    assert (request.state, request.attempts) == ("completed", 1)
    assert refused(openai) < 25, "at growing pauses"


async def test_an_image_that_openai_refuses_alone_for_longer_than_any_batch_ends(
    ctx: Context, clock: Clock, openai: Simulator
) -> None:
    openai.account = Account(other_tokens=LIMIT)
    body = chat("x", messages=[{"role": "user", "content": [image(500)]}])
    [request] = await put(ctx, body)
    begun = clock()
    await drive(ctx, clock, round_s=600)
    [request] = await look(ctx, [request])
    assert (request.state, request.status_code) == ("failed", 400)
    assert answer(request)["error"]["code"] == "token_limit_exceeded"
    assert (clock() - begun).total_seconds() > 25 * HOUR_S


@pytest.mark.parametrize(
    ("text", "least_s", "most_s"),
    [
        ("word " * 2000, 30, HOUR_S),  # 2,000 words are 2,000 tokens at least
        ("x" * 8000, HOUR_S, 4 * HOUR_S),  # perhaps 2,000 tokens, perhaps 1,000
    ],
)
async def test_a_text_above_the_limit_ends_after_openai_has_refused_it_again(
    ctx: Context, clock: Clock, openai: Simulator, text: str, least_s: float, most_s: float
) -> None:
    begun = clock()
    [large, *small] = await put(ctx, chat(text), *(chat(f"small {n}") for n in range(5)))
    await drive(ctx, clock)
    [large, *small] = await look(ctx, [large, *small])
    assert (large.state, large.status_code) == ("failed", 400)
    assert answer(large)["error"]["code"] == "token_limit_exceeded"
    assert {r.state for r in small} == {"completed"}
    assert least_s < (clock() - begun).total_seconds() < most_s + LAG_S
    assert refused(openai) >= 3, "once with the others, and at least twice alone"


async def test_one_that_has_to_go_alone_has_its_turn_though_others_keep_coming(
    ctx: Context, clock: Clock, openai: Simulator
) -> None:
    [large] = await put(ctx, chat("word " * 2000))
    for n in range(120):
        await put(ctx, chat(f"small {n}"))
        await _settle(ctx, clock, 120)
        [large] = await look(ctx, [large])
        if large.state == "failed":
            break
    assert large.state == "failed"
    await drive(ctx, clock)
    assert set(openai.ledger.counts().values()) == {1}


# ----- what people are told -----


async def test_a_guess_is_never_shown_as_openais_limit(
    ctx: Context, clock: Clock, openai: Simulator, rows: Rows
) -> None:
    openai.account = Account(other_tokens=LIMIT, other_tokens_s=HOUR_S)
    await put(ctx, *(chat(f"{n} " + "word " * 70) for n in range(8)))
    await _settle(ctx, clock, 120)
    async with ctx.database.transaction() as conn:
        [(model, told, guess)] = await queries.token_limits(conn)
        [queue] = await queries.read_queues(conn, View.own("default"), 100, 10)
    assert (model, told) == ("gpt-4o", LIMIT)
    assert guess is not None
    assert guess < LIMIT
    pace, soon = presenters.Pace(timedelta(seconds=60), creates=0), clock() + timedelta(seconds=60)
    waiting = replace(queue, held_until=None, queued_at=clock() - timedelta(hours=1), enqueued=1)
    for row, until in ((replace(waiting, held_until=soon), soon), (waiting, None)):
        shown = presenters.queue(row, pace, Forecast({}, {}), clock())
        assert (shown["reason"], shown["until"]) == ("token_limit", presenters.unix(until))
        assert shown["token_limit"] == {"told": LIMIT, "kept": guess, "others": True}
        assert shown["detail"].startswith(
            "OpenAI told a limit of 1,000 enqueued tokens; our batches are refused below that: "
            "others may be using this account."
        )
    alone = presenters.queue(replace(waiting, queued_at=soon), pace, Forecast({}, {}), clock())
    assert (alone["reason"], alone["until"]) == ("token_limit", presenters.unix(soon))
