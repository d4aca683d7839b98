"""A refusal is judged by what it is about: a line, the model, the account, a passing trouble."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
import pytest

from openaibatching.server.pipeline.context import Context
from openaibatching.simulator import Faults
from openaibatching.simulator.engine.account import REFUSALS, Account
from openaibatching.simulator.engine.errors import INVALID
from support.postgres import ONE_KIND
from support.steps import answer, chat, drive, look, openai_of, put, turn
from support.world import Clock

Rows = psycopg.Connection[tuple[Any, ...]]
pytestmark = ONE_KIND


async def test_one_ugly_body_fails_alone_and_does_not_stop_its_queue(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        ugly = await put(ctx, chat("[[simulate:unparseable]] ugly"))
        fine = await put(ctx, *(chat(f"fine {n}") for n in range(15)))
        await drive(ctx, clock)
        (failed,) = await look(ctx, ugly)
        assert (failed.state, failed.status_code, failed.attempts) == ("failed", 400, 0)
        assert {r.state for r in await look(ctx, fine)} == {"completed"}
        assert set(simulator.ledger.counts().values()) == {1}
        assert simulator.files() == []


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_create_that_is_refused_holds_the_model_and_is_not_halved(
    ctx: Context, clock: Clock, rows: Rows, refusal: str
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        simulator.account = Account(refusal=refusal)
        requests = await put(ctx, *(chat(f"refused {n}") for n in range(40)))
        await turn(ctx, clock, rounds=60)
        assert not {r.state for r in await look(ctx, requests)} & {"failed", "completed"}
        requests += await put(ctx, *(chat(f"later {n}") for n in range(40)))
        await turn(ctx, clock, rounds=60)
        assert rows.execute("select count(*) from batch").fetchone() == (1,), "none piles up"
        simulator.account = Account()
        await drive(ctx, clock)
        found = await look(ctx, requests)
        assert {(r.state, r.attempts) for r in found} == {("completed", 1)}
        assert len(simulator.batches()) == 2


@pytest.mark.parametrize("refusal", ["billing_hard_limit_reached", "project_archived"])
async def test_batches_that_are_all_refused_alike_are_tried_with_one_request_at_growing_pauses(
    ctx: Context, clock: Clock, refusal: str
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        simulator.account = Account(refusal=refusal, at_validation=True)
        requests = await put(ctx, *(chat(f"all {n}") for n in range(40)))
        await turn(ctx, clock, rounds=240)
        assert not {r.state for r in await look(ctx, requests)} & {"failed", "completed"}
        sizes = [batch["request_counts"]["total"] for batch in simulator.batches()]
        assert len(sizes) < 20, "four hours of growing pauses, and not a batch for each call"
        simulator.account = Account()
        await drive(ctx, clock)
        assert {r.state for r in await look(ctx, requests)} == {"completed"}
        assert set(simulator.ledger.counts().values()) == {1}


async def test_two_culprits_in_both_halves_are_found_all_the_same(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        texts = [f"text {n}" + " [[simulate:poison]]" * (n in (3, 36)) for n in range(40)]
        requests = await put(ctx, *(chat(text) for text in texts))
        await drive(ctx, clock)
        found = await look(ctx, requests)
        assert Counter(r.state for r in found) == {"completed": 38, "failed": 2}
        assert (found[3].state, found[36].state) == ("failed", "failed")
        assert len(simulator.batches()) < 40
        assert set(simulator.ledger.counts().values()) == {1}


async def test_a_models_fault_that_is_named_for_the_first_line_fails_all_at_once(
    ctx: Context, clock: Clock
) -> None:
    faults = Faults(model_fault_first_line=1.0)
    async with openai_of(ctx, clock, lag=60.0, faults=faults, deny_models=["gpt-4o"]) as simulator:
        requests = await put(ctx, *(chat(f"model {n}") for n in range(30)))
        await drive(ctx, clock)
        found = await look(ctx, requests)
        assert {(r.state, answer(r)["error"]["code"]) for r in found} == {
            ("failed", "model_not_found")
        }
        assert len(simulator.batches()) == 1


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_models_fault_that_refuses_the_create_fails_all_at_once(
    ctx: Context, clock: Clock, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    told = (status, "The model `gpt-4o` does not exist.", INVALID, "model_not_found")
    monkeypatch.setitem(REFUSALS, "model_not_found", told)
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        simulator.account = Account(refusal="model_not_found")
        requests = await put(ctx, *(chat(f"model {n}") for n in range(8)))
        await turn(ctx, clock, rounds=3)
        found = await look(ctx, requests)
        assert {(r.state, r.attempts) for r in found} == {("failed", 0)}
        assert {answer(r)["error"]["code"] for r in found} == {"model_not_found"}
        assert simulator.batches() == []


async def test_credit_that_ends_in_the_middle_of_a_batch_fails_nobody(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        simulator.account = Account(credit_lines=7)
        requests = await put(ctx, *(chat(f"credit {n}") for n in range(20)))
        await turn(ctx, clock, rounds=120)
        states = Counter(r.state for r in await look(ctx, requests))
        assert states["completed"] == 7
        assert states["failed"] == 0
        assert rows.execute("select held_for from model_limit").fetchone() == (
            "insufficient_quota",
        )
        simulator.account = Account()
        await drive(ctx, clock)
        found = await look(ctx, requests)
        assert {(r.state, r.attempts) for r in found} == {("completed", 1)}
        assert set(simulator.ledger.counts().values()) == {1}


async def test_a_request_that_is_tried_and_fails_by_itself_lets_the_others_go_on(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with openai_of(ctx, clock, lag=60.0) as simulator:
        simulator.account = Account(credit_lines=0)
        requests = await put(ctx, *(chat(f"wrong {n}", temperature=99) for n in range(6)))
        await turn(ctx, clock, rounds=3)
        await put(ctx, *(chat(f"right {n}") for n in range(3)))
        await turn(ctx, clock, rounds=30)
        simulator.account = Account()
        await drive(ctx, clock)
        assert {r.status_code for r in await look(ctx, requests)} == {400}
        assert rows.execute("select probing, holds from model_limit").fetchone() == (None, 0)


async def test_a_401_is_the_accounts_until_the_same_key_has_sent_the_request_again(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=60.0):
        once, always = await put(
            ctx, chat("[[simulate:status=401*1]] once"), chat("[[simulate:status=401]] always")
        )
        await drive(ctx, clock)
        once, always = await look(ctx, [once, always])
        assert (once.state, once.attempts) == ("completed", 1)
        assert (always.state, always.status_code) == ("failed", 401)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_three_attempts_are_not_gone_within_one_outage(
    ctx: Context, clock: Clock, status: int
) -> None:
    ctx.settings = ctx.settings.model_copy(update={"batch_poll_s": 30.0})
    async with openai_of(ctx, clock, lag=10.0) as simulator:
        simulator.account = Account(outage_status=status)
        requests = await put(ctx, *(chat(f"outage {n}") for n in range(5)))
        await turn(ctx, clock, rounds=8)
        found = await look(ctx, requests)
        assert {(r.state, r.attempts) for r in found} == {("queued", 2)}
        simulator.account = Account()
        await drive(ctx, clock)
        assert {(r.state, r.attempts) for r in await look(ctx, requests)} == {("completed", 3)}


@pytest.mark.parametrize("before", [True, False], ids=["before it began", "half done"])
async def test_a_batch_that_somebody_cancels_at_openai_is_not_sent_again(
    ctx: Context, clock: Clock, before: bool
) -> None:
    faults = Faults(cancel_before_start=1.0) if before else Faults(cancel_from_outside=1.0)
    async with openai_of(ctx, clock, lag=600.0, faults=faults) as simulator:
        requests = await put(ctx, *(chat(f"no {n}") for n in range(10)))
        await drive(ctx, clock)
        found = await look(ctx, requests)
        failed = [r for r in found if r.state == "failed"]
        assert {(r.status_code, answer(r)["error"]["code"]) for r in failed} == {
            (409, "batch_cancelled")
        }
        assert {r.attempts for r in failed} == ({0} if before else {1})
        assert {r.state for r in found} - {"failed"} == (set() if before else {"completed"})
        assert len(simulator.batches()) == 1


RESPONSES = "/v1/responses"


@pytest.mark.parametrize(
    ("code", "state", "status"),
    [
        ("server_error*1", "completed", 200),
        ("rate_limit_exceeded*1", "completed", 200),
        ("invalid_prompt", "failed", 400),
        ("server_error", "failed", 500),
        ("rate_limit_exceeded", "failed", 429),
    ],
)
async def test_a_response_that_failed_inside_a_200_is_a_failure_with_its_own_error(
    ctx: Context, clock: Clock, code: str, state: str, status: int
) -> None:
    name, _, times = code.partition("*")
    marker = f"[[simulate:failed={name}]]" if not times else f"[[simulate:failed={name}*{times}]]"
    body = {"model": "gpt-4o", "input": f"{marker} please"}
    async with openai_of(ctx, clock, lag=60.0):
        requests = await put(ctx, body, endpoint=RESPONSES)
        await drive(ctx, clock)
        (found,) = await look(ctx, requests)
        assert (found.state, found.status_code) == (state, status)
        if state == "failed":
            assert answer(found)["error"]["code"] == name


async def test_an_image_that_could_not_be_fetched_in_time_is_tried_again(
    ctx: Context, clock: Clock
) -> None:
    async with openai_of(ctx, clock, lag=60.0):
        requests = await put(ctx, chat("[[simulate:image_timeout*1]] look"))
        await drive(ctx, clock)
        (found,) = await look(ctx, requests)
        assert (found.state, found.attempts) == ("completed", 2)
