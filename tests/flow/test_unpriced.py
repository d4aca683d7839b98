"""What no price is known for: how budgets treat it, and how it shows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from support.door import WAIT, Door, open_door, refused
from support.postgres import ONE_KIND, Cluster
from support.steps import chat
from support.world import until

pytestmark = ONE_KIND

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
UNLISTED = "gpt-6.2-sol"
"""OpenAI has it, and the price list does not yet."""


@pytest.fixture
async def door(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("unpriced")
    changes = {"batch_linger_s": 0.1, **request.param}
    async with open_door(cluster, folder, **changes) as opened:
        yield opened


def budget(usd: str, **more: Any) -> dict[str, Any]:
    return {"batch_budget_usd_day": usd, **more}


async def spent(door: Door) -> float:
    found = (await door.client.get("/v1/stats")).json()["budget"]["spent"]
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize("door", [budget("1"), budget("default=1")], indirect=True)
async def test_a_budget_keeps_out_what_it_cannot_count_and_says_how_to_let_it_in(
    door: Door,
) -> None:
    reply = await door.client.post(CHAT, json=chat("how much?", UNLISTED))
    refused(reply, 429, "budget_exceeded", None)
    assert reply.headers["x-should-retry"] == "false"
    said = reply.json()["error"]["message"]
    assert UNLISTED in said
    assert "BATCH_BUDGET_UNPRICED" in said
    assert door.rows("default") == 0
    assert (await door.client.post(CHAT, json=chat("this much"))).status_code == 202
    free = {"input": "the default model of moderations is free"}
    assert (await door.client.post("/v1/moderations", json=free)).status_code == 202
    prompt = {"prompt": {"id": "pmpt_0"}, "input": "of a model that only OpenAI knows"}
    reply = await door.client.post(RESPONSES, json=prompt)
    assert "stored prompt" in refused(reply, 429, "budget_exceeded", None)
    lines = [
        {"custom_id": model, "method": "POST", "url": CHAT, "body": chat("in bulk", model)}
        for model in (UNLISTED, "gpt-4o")
    ]
    content = "\n".join(map(json.dumps, lines))
    headers = {"Content-Type": "application/jsonl"}
    bulk = await door.client.post("/v1/requests", content=content, headers=headers)
    told = [json.loads(line)["response"]["status_code"] for line in bulk.text.splitlines()]
    assert told == [429, 202]


@pytest.mark.parametrize("door", [budget("other=1"), {}], indirect=True)
async def test_without_a_budget_of_ones_own_all_models_are_let_in(door: Door) -> None:
    assert (await door.client.post(CHAT, json=chat("no budget", UNLISTED))).status_code == 202


@pytest.mark.parametrize("door", [budget("1", batch_budget_unpriced="allow")], indirect=True)
async def test_allowed_it_counts_nothing(door: Door) -> None:
    done = await door.client.post(CHAT, json=chat("allowed", UNLISTED), headers=WAIT)
    assert done.json()["has_completed"]
    assert done.json()["batching"]["cost"] is None
    assert await spent(door) == 0


@pytest.mark.parametrize("door", [budget("2", batch_budget_unpriced="50000")], indirect=True)
async def test_with_a_price_of_ones_own_budgets_count_it_and_receipts_do_not(door: Door) -> None:
    body = chat("five cents a token", UNLISTED, max_tokens=2)
    done = (await door.client.post(CHAT, json=body, headers=WAIT)).json()
    assert done["has_completed"]
    assert done["batching"]["cost"] is None
    total = (await door.client.get("/v1/costs")).json()["total"]
    assert (total["unpriced"], total["paid"]) == (1, 0)
    assert await spent(door) == pytest.approx(0.05 * done["usage"]["total_tokens"])
    large = chat("too dear " * 20, UNLISTED, max_tokens=2)
    refused(await door.client.post(CHAT, json=large), 429, "budget_exceeded", None)


@pytest.mark.parametrize("door", [{}], indirect=True)
async def test_no_known_price_shows_on_the_page_in_costs_and_in_metrics(door: Door) -> None:
    done = (await door.client.post(CHAT, json=chat("shown", UNLISTED), headers=WAIT)).json()
    assert done["batching"]["cost"] is None
    rows = (await door.client.get("/v1/costs?group_by=model")).json()["data"]
    assert [(row["model"], row["unpriced"], row["paid"]) for row in rows] == [(UNLISTED, 1, 0)]

    async def counted() -> bool:
        page = (await door.client.get("/metrics")).text
        return f'cost_gaps_total{{kind="unpriced",model="{UNLISTED}"}} 1.0' in page

    await until(counted)


@pytest.mark.parametrize("door", [{}], indirect=True)
async def test_cache_writes_are_in_the_receipt_and_both_prices_are_kept(door: Door) -> None:
    body = {"model": "gpt-6-luna", "input": "written to the cache " * 400}
    done = (await door.client.post(RESPONSES, json=body, headers=WAIT)).json()
    usage = done["usage"]
    details = usage["input_tokens_details"]
    written, cached = details["cache_write_tokens"], details["cached_tokens"]
    assert written > 0
    fresh = usage["input_tokens"] - written - cached
    paid = fresh * Decimal("0.05") + written * Decimal("0.0625") + cached * Decimal("0.005")
    paid = (paid + usage["output_tokens"] * Decimal("0.25")) / 1_000_000
    cost = done["batching"]["cost"]
    assert cost["paid"] == pytest.approx(float(paid))
    assert cost["incomplete"] is False
    # A receipt stays as it is: nothing is computed again when it is read.
    with psycopg.connect(door.database_url, autocommit=True) as conn:
        conn.execute("update openaibatching.result set paid = 0.25, realtime = 1")
    again = (await door.client.get(f"/v1/requests/{done['batching']['id']}")).status_code
    assert again == 200
    cost = (await door.client.post(RESPONSES, json=body)).json()["batching"]["cost"]
    assert (cost["paid"], cost["realtime"], cost["saved"]) == (0.25, 1.0, 0.75)


@pytest.mark.parametrize(
    "door", [budget("0.0012", batch_requests_max=2, batch_linger_s=3600.0)], indirect=True
)
async def test_a_day_of_cache_writes_never_costs_more_than_its_budget_and_one_batch(
    door: Door,
) -> None:
    with psycopg.connect(door.database_url) as conn:  # the answers of the week were empty
        conn.execute(
            "insert into openaibatching.spending (tenant, hour, endpoint, model, answers)"
            " values ('other', now() - interval '2 days', %s, 'gpt-6-luna', 1000)",
            [RESPONSES],
        )
    for n in range(10):
        body = {"model": "gpt-6-luna", "input": f"{n} " * 3000, "max_output_tokens": 3000}
        assert (await door.client.post(RESPONSES, json=body)).status_code == 202

    async def until_no_more_is_sent() -> dict[str, Any] | None:
        now: dict[str, Any] = (await door.client.get("/v1/stats")).json()
        held = now["queue"] and now["queue"][0]["reason"] == "over_budget"
        return now if held and now["requests"]["in_progress"] == 0 else None

    now = await until(until_no_more_is_sent)
    paid = (await door.client.get("/v1/costs")).json()["total"]["paid"]
    with psycopg.connect(door.database_url) as conn:
        dearer = conn.execute(
            "select count(*) from openaibatching.result p, openaibatching.queued q"
            " where p.paid > q.usd_most"  # all cost the same at most
        ).fetchone()
    assert dearer == (0,)
    assert 0 < now["requests"]["queued"] < 10
    assert 0.0012 <= paid <= 0.0012 + paid / len(door.simulator.batches())
