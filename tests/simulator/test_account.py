"""The account's state: what is refused for it, its credit, and its other users."""

import httpx2
import openai
import pytest

from openaibatching.simulator import Account, Simulator
from openaibatching.simulator.engine.account import REFUSALS
from simulator.kit import World, said, world

LIMIT = {"gpt-4o": 1000}


def control(w: World, path: str, **given: object) -> httpx2.Response:
    return httpx2.post(
        f"{w.url.removesuffix('/v1')}/_simulator/{path}", json=given, trust_env=False
    )


@pytest.mark.parametrize("name", REFUSALS)
def test_a_create_is_refused_for_the_account(name: str) -> None:
    status, message, kind, code = REFUSALS[name]
    with world(account=Account(refusal=name)) as w:
        for _ in range(2):
            with pytest.raises(openai.APIStatusError) as caught:
                w.create(said("a"))
            assert caught.value.status_code == status
            error = {"message": message, "type": kind, "param": None, "code": code}
            assert caught.value.response.json() == {"error": error}
        assert w.sim.batches() == []
        assert control(w, "account").status_code == 200
        assert w.finish(said("a")).status == "completed"


def test_a_refusal_may_end_by_itself() -> None:
    with world(account=Account(refusal="billing_hard_limit_reached", refusals=2)) as w:
        for _ in range(2):
            with pytest.raises(openai.BadRequestError):
                w.create(said("a"))
        assert w.finish(said("a")).status == "completed"


def test_a_batch_may_fail_for_the_account() -> None:
    account = Account(refusal="billing_hard_limit_reached", refusals=1, at_validation=True)
    with world(account=account) as w:
        batch = w.finish(said("a"))
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert batch.errors.data[0].code == "billing_hard_limit_reached"
        assert batch.errors.data[0].line is None
        assert w.finish(said("a")).status == "completed"


def test_credit_ends_in_the_middle_of_a_batch() -> None:
    with world(account=Account(credit_lines=2)) as w:
        batch = w.finish(said(*"abcde"))
        assert batch.status == "completed"
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 5, "completed": 2, "failed": 3}
        for one in w.read(batch.error_file_id):
            assert one["error"] is None
            assert one["response"]["status_code"] == 429
            assert one["response"]["body"]["error"]["type"] == "insufficient_quota"
            assert one["response"]["body"]["error"]["code"] == "insufficient_quota"
        assert w.sim.ledger.lines == 2
        with pytest.raises(openai.RateLimitError) as caught:
            w.create(said("f"))
        assert caught.value.code == "insufficient_quota"
        control(w, "account", credit_lines=1)
        assert w.finish(said("f")).output_file_id
        w.sim.account = Account(credit_lines=0, at_validation=True)
        assert w.finish(said("g")).status == "failed"


def test_what_is_refused_costs_no_credit() -> None:
    with world(account=Account(credit_lines=1)) as w:
        batch = w.finish(said("[[simulate:status=400]]", "a"))
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}


@pytest.mark.parametrize("status", [500, 503])
def test_every_line_fails_while_there_is_an_outage(status: int) -> None:
    with world(account=Account(outage_status=status)) as w:
        batch = w.finish(said("a", "b"))
        assert batch.output_file_id is None
        found = {one["response"]["status_code"] for one in w.read(batch.error_file_id)}
        assert found == {status}
        control(w, "account")
        assert w.finish(said("a", "b")).error_file_id is None
        assert w.sim.ledger.lines == 2


def test_others_use_the_limit_until_they_end() -> None:
    with world(enqueued_token_limits=LIMIT) as w:
        control(w, "account", other_tokens=1000, other_tokens_s=60)
        batch = w.finish(said("a"))
        assert batch.errors
        assert batch.errors.data
        assert batch.errors.data[0].code == "token_limit_exceeded"
        assert "Limit: 1,000 enqueued tokens" in (batch.errors.data[0].message or "")
        w.clock.advance(60)
        assert w.finish(said("a")).status == "completed"
        w.sim.account = Account(other_tokens=1000)
        w.clock.advance(86400)
        assert w.finish(said("a")).status == "failed"


def test_one_batch_is_cancelled_from_outside() -> None:
    with world(lag=100) as w:
        first, second = w.create(said("a")), w.create(said("b"))
        assert control(w, f"batches/{first.id}/cancel").json()["status"] == "cancelling"
        w.clock.advance(100)
        assert w.client.batches.retrieve(first.id).status == "cancelled"
        assert w.client.batches.retrieve(second.id).status == "completed"
        assert control(w, "batches/batch_none/cancel").status_code == 404


@pytest.mark.parametrize(
    "given", [{"refusal": "none_such"}, {"credit_lines": -2}, {"other_tokens": "5"}]
)
def test_what_no_account_can_be_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        Account(**given)  # type: ignore[arg-type]
    with world() as w:
        assert control(w, "account", **given).status_code == 400
        assert control(w, "account", wealth=1).status_code == 400
        assert w.sim.account == Account()


def test_all_is_well_by_default() -> None:
    assert Simulator().account == Account()
