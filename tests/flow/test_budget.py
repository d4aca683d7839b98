"""What a day may cost is not passed: a call that may pass it is refused, and nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import openai
import pytest

from openaibatching import AsyncOpenAIBatching
from openaibatching.server.billing.prices import PriceList
from openaibatching.server.domain.tokens import Tokens
from support.door import WAIT, Door, as_scope, open_door, refused
from support.postgres import ONE_KIND, Cluster
from support.world import KEY, sdk, until

CHAT = "/v1/chat/completions"
LIMIT, OTHERS = Decimal("0.05"), Decimal("0.01")
CALL_USD = PriceList().lost_usd("gpt-4o", Tokens(0, 0, 1000)) or Decimal(0)
"""$0.005: what a call that may write 1,000 tokens may cost, but for what it says."""

pytestmark = ONE_KIND


ALL, OWN = f"{LIMIT}", f"1000,default={LIMIT},other={OTHERS}"


@pytest.fixture(params=[ALL, OWN])
async def frugal(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """A server with a budget, which sends nothing until it is told to."""
    folder = tmp_path_factory.mktemp("frugal")
    changes = {"batch_linger_s": 3600.0, "batch_budget_usd_day": request.param}
    async with open_door(cluster, folder, **changes) as door:
        yield door


def chat(n: int, most: int | None = 1000) -> dict[str, Any]:
    said = {"messages": [{"role": "user", "content": f"question {n}"}]}
    return {"model": "gpt-4o", **said, **({"max_tokens": most} if most else {})}


async def ask_until_refused(door: Door) -> int:
    """How many calls the budget let in."""
    for n in range(1000):
        reply = await door.client.post(CHAT, json=chat(n))
        if reply.status_code != 202:
            refused(reply, 429, "budget_exceeded", None)
            assert reply.headers["x-should-retry"] == "false"
            return n
    raise AssertionError("never refused")


@pytest.mark.parametrize("frugal", [ALL, OWN, f"{LIMIT},default=1000"], indirect=True)
async def test_a_call_that_may_pass_the_budget_is_refused_and_not_stored(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    assert taken == LIMIT // CALL_USD - 1  # a whole one less, for what the calls say themselves
    assert frugal.rows("default") == taken
    # A budget of all is shown to whoever sees all.
    budget = (await as_scope(frugal, "admin", "/v1/stats?tenant=default")).json()["budget"]
    assert budget["usd_day"] == float(LIMIT)
    assert budget["spent"] == 0
    assert float(LIMIT - CALL_USD) < budget["reserved"] <= float(LIMIT)


async def test_what_was_taken_is_answered_again_and_cheaper_calls_still_fit(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    assert (await frugal.client.post(CHAT, json=chat(taken - 1))).status_code == 202
    assert (await frugal.client.post(CHAT, json=chat(1001, most=1))).status_code == 202
    free = {"model": "omni-moderation-latest", "input": "costs nothing"}
    assert (await frugal.client.post("/v1/moderations", json=free)).status_code == 202


async def test_answers_make_room_and_the_money_spent_stays_below_the_budget(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    assert (await frugal.client.post("/v1/flush")).status_code == 202
    for n in range(taken):
        done = await frugal.client.post(CHAT, json=chat(n), headers=WAIT)
        assert done.json()["has_completed"], done.text

    async def fits() -> bool:  # the answers are shorter than they might have been
        return (await frugal.client.post(CHAT, json=chat(5000))).status_code == 202

    await until(fits)
    total = (await frugal.client.get("/v1/costs")).json()["total"]
    assert 0 < total["paid"] < LIMIT


async def test_cancelled_requests_make_room(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    id_ = (await frugal.client.post(CHAT, json=chat(0))).headers["x-batching-id"]
    assert (await frugal.client.post(f"/v1/requests/{id_}/cancel")).status_code == 200

    async def fits() -> bool:
        return (await frugal.client.post(CHAT, json=chat(taken))).status_code == 202

    await until(fits)


async def test_in_a_bulk_call_only_the_lines_that_pass_it_are_refused(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    lines = [
        {"custom_id": str(n), "method": "POST", "url": CHAT, "body": body}
        for n, body in enumerate((chat(0), chat(taken + 1), chat(taken + 2, most=1)))
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    reply = await frugal.client.post(
        "/v1/requests", content=content, headers={"Content-Type": "application/jsonl"}
    )
    told = [json.loads(line)["response"] for line in reply.text.splitlines()]
    assert [each["status_code"] for each in told] == [202, 429, 202]
    assert told[1]["body"]["error"]["code"] == "budget_exceeded"


async def test_no_sdk_asks_again_what_the_budget_refused(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    async with (
        sdk(frugal.service) as plain,
        AsyncOpenAIBatching(batch_server_url=frugal.service.url, batch_server_api_key=KEY) as ours,
    ):
        for client in (plain, ours):
            with pytest.raises(openai.RateLimitError) as raised:
                await client.chat.completions.create(**chat(taken + 3))
            assert raised.value.code == "budget_exceeded"
            assert raised.value.response.headers["x-should-retry"] == "false"
        # And together, which our client sends as one bulk call; what is not tried again shows how
        # it was answered at first.
        once = ours.with_options(max_retries=0)
        several = (once.chat.completions.create(**chat(taken + n)) for n in range(10, 20))
        for error in await asyncio.gather(*several, return_exceptions=True):
            assert isinstance(error, openai.RateLimitError)
            assert error.response.headers["x-should-retry"] == "false"


async def test_an_image_is_estimated_as_an_image_and_not_as_its_prompt(frugal: Door) -> None:
    body = {"model": "gpt-image-1.5", "prompt": "a cat"}
    assert (await frugal.client.post("/v1/images/generations", json=body)).status_code == 202
    budget = (await frugal.client.get("/v1/stats")).json()["budget"]
    assert budget["reserved"] > 0.016  # 1,000 tokens of an image, $16 a million by batch


async def test_without_a_budget_nothing_is_estimated(quiet: Door) -> None:
    assert (await quiet.client.post(CHAT, json=chat(1, most=10**9))).status_code == 202
    budget = (await quiet.client.get("/v1/stats")).json()["budget"]
    assert budget == {"usd_day": None, "spent": 0.0, "reserved": 0.0, "at_openai_most": None}


async def test_a_retry_is_subject_to_the_budget_like_a_new_call(frugal: Door) -> None:
    taken = await ask_until_refused(frugal)
    ids = [
        (await frugal.client.post(CHAT, json=chat(n))).headers["x-batching-id"]
        for n in range(taken)
    ]
    for id_ in ids:
        assert (await frugal.client.post(f"/v1/requests/{id_}/cancel")).status_code == 200

    async def full_again() -> bool:  # the room that the cancelled ones made is others'
        for n in range(5000, 5000 + taken):
            reply = await frugal.client.post(CHAT, json=chat(n))
            if reply.status_code == 429:
                return n > 5000
        return True

    await until(full_again)
    for id_ in ids:
        reply = await frugal.client.post(f"/v1/requests/{id_}/retry")
        refused(reply, 429, "budget_exceeded", None)
        assert reply.headers["x-should-retry"] == "false"
    assert frugal.rows("default") <= 2 * taken


async def test_what_is_retried_is_reserved_again(frugal: Door) -> None:
    id_ = (await frugal.client.post(CHAT, json=chat(1))).headers["x-batching-id"]
    assert (await frugal.client.post(f"/v1/requests/{id_}/cancel")).status_code == 200
    assert (await frugal.client.post(f"/v1/requests/{id_}/retry")).status_code == 200
    assert (await frugal.client.post(f"/v1/requests/{id_}/retry")).status_code == 409
    taken = 1 + await ask_until_refused(frugal)
    assert taken <= LIMIT // CALL_USD


@pytest.mark.parametrize(
    "more",
    [
        {"n": 100},
        {"n": 100, "max_tokens": 1000},
        {"tools": [{"type": "web_search"}], "max_tool_calls": 100},
    ],
)
async def test_an_estimate_counts_all_that_the_call_multiplies(
    frugal: Door, more: dict[str, Any]
) -> None:
    reply = await frugal.client.post(CHAT, json=chat(1, most=None) | more)
    refused(reply, 429, "budget_exceeded", None)
    assert (await frugal.client.post(CHAT, json=chat(1, most=None))).status_code == 202


async def test_an_estimate_counts_each_image(frugal: Door) -> None:
    drawn = {"model": "gpt-image-1", "prompt": "a cat", "quality": "low", "size": "1024x1024"}
    reply = await frugal.client.post("/v1/images/generations", json=drawn | {"n": 10})
    assert reply.status_code == 429
    assert (await frugal.client.post("/v1/images/generations", json=drawn)).status_code == 202


async def test_an_estimate_counts_each_image_that_a_tool_draws(frugal: Door) -> None:
    # Two results of a tool cost $0.04 to get and to read, two images another $0.06.
    call = {"model": "gpt-4o", "input": "a cat", "max_tool_calls": 2}
    drawn, found = ({"tools": [{"type": tool}]} for tool in ("image_generation", "web_search"))
    reply = await frugal.client.post("/v1/responses", json=call | drawn)
    refused(reply, 429, "budget_exceeded", None)
    reply = await frugal.client.post("/v1/responses", json=call | found)
    assert reply.status_code == 202, reply.text
