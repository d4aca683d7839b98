"""What a tenant is told about all of its work, by HTTP: money, batches, failures."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from openaibatching.server.billing.prices import PriceList
from openaibatching.server.domain import usage
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.domain.usage import Usage
from support.door import WAIT, Door, refused
from support.postgres import ONE_KIND
from support.world import until

pytestmark = ONE_KIND

CHAT = "/v1/chat/completions"


def chat(text: str, model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def got(door: Door, path: str, status: int = 200) -> dict[str, Any]:
    reply = await door.client.get(path)
    assert reply.status_code == status, reply.text
    value: dict[str, Any] = reply.json()
    return value


async def ask(door: Door, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    reply = await door.client.post(CHAT, json=body, headers=headers)
    value: dict[str, Any] = reply.json()
    return value


# ----- receipts -----


async def test_an_answer_says_what_it_cost_and_what_it_saved(lively: Door) -> None:
    done = await ask(lively, chat("what does this cost?"), **WAIT)
    receipt = PriceList().receipt(usage.read(json.dumps(done["usage"]).encode()), "gpt-4o")
    assert receipt is not None
    assert done["batching"]["cost"] == {
        "currency": "usd",
        "paid": float(receipt.realtime) / 2,
        "realtime": float(receipt.realtime),
        "saved": float(receipt.realtime) / 2,
        "incomplete": False,
    }


async def test_an_unfinished_request_has_no_receipt_yet(quiet: Door) -> None:
    assert "cost" not in (await ask(quiet, chat("not yet")))["batching"]


async def test_a_model_without_a_known_price_has_none_and_is_counted(lively: Door) -> None:
    before = (await got(lively, "/v1/costs"))["total"]
    done = await ask(lively, chat("priceless", model="own-model"), **WAIT)
    assert done["has_completed"]
    assert done["batching"]["cost"] is None
    after = (await got(lively, "/v1/costs"))["total"]
    assert after["unpriced"] == before["unpriced"] + 1
    assert after["input_tokens"] > before["input_tokens"]
    assert after["paid"] == before["paid"]


async def test_a_request_that_failed_costs_nothing_and_says_why_in_the_stats(lively: Door) -> None:
    body = chat("[[simulate:status=400]] for the stats")
    done = await ask(lively, body, **WAIT)
    assert done["error"]
    assert done["batching"]["cost"] is None
    failures = (await got(lively, "/v1/stats"))["failures"]
    mine = [f for f in failures if f["example"] == done["batching"]["id"]]
    assert [(f["status_code"], f["code"], f["model"], f["endpoint"]) for f in mine] == [
        (400, done["error"]["code"] or done["error"]["type"], "gpt-4o", CHAT)
    ]


async def test_costs_are_grouped_as_asked_and_always_add_up(lively: Door) -> None:
    for text, model in (("one", "gpt-4o"), ("two", "gpt-4o-mini"), ("three", "gpt-4o-mini")):
        await ask(lively, chat(f"grouped {text}", model=model), **WAIT)
    for group in ("day", "model", "endpoint", "tenant", "day,model", "endpoint,tenant,model"):
        found = await got(lively, f"/v1/costs?group_by={group}")
        assert found["object"] == "list"
        assert all(set(group.split(",")) <= set(row) for row in found["data"])
        for name in ("answers", "input_tokens", "output_tokens"):
            assert sum(row[name] for row in found["data"]) == found["total"][name] > 0
        assert sum(r["paid"] for r in found["data"]) == pytest.approx(found["total"]["paid"])
    models = {row["model"]: row for row in (await got(lively, "/v1/costs?group_by=model"))["data"]}
    mini = models["gpt-4o-mini"]
    tokens = Tokens(mini["input_tokens"], mini["cached_tokens"], mini["output_tokens"])
    receipt = PriceList().receipt(Usage(tokens), "gpt-4o-mini")
    assert receipt is not None
    assert mini["realtime"] == pytest.approx(float(receipt.realtime))
    assert mini["saved"] == pytest.approx(mini["realtime"] - mini["paid"])


async def test_what_was_paid_stays_when_its_request_is_forgotten(lively: Door) -> None:
    done = await ask(lively, chat("soon forgotten"), **WAIT)
    before = await got(lively, "/v1/costs?days=1")
    gone = await lively.client.delete(f"/v1/requests/{done['batching']['id']}")
    assert gone.status_code == 200
    assert await got(lively, "/v1/costs?days=1") == before


@pytest.mark.parametrize(
    ("query", "param"),
    [("group_by=colour", "group_by"), ("group_by=day,day", "group_by"), ("days=0", "days"),
     ("days=3661", "days"), ("days=one", "days"), ("days=1&days=2", "days")],
)  # fmt: skip
async def test_a_wrong_question_about_costs_is_refused(quiet: Door, query: str, param: str) -> None:
    refused(await quiet.client.get(f"/v1/costs?{query}"), 400, "invalid_value", param)


# ----- what waits, what runs -----


async def test_what_waits_says_why_and_until_when(quiet: Door) -> None:
    first = await ask(quiet, chat("waiting", model="gpt-4.1"))
    stats = await got(quiet, "/v1/stats")
    assert stats["object"] == "stats"
    assert stats["requests"]["queued"] >= 1
    [queue] = [each for each in stats["queue"] if each["model"] == "gpt-4.1"]
    linger = quiet.service.settings.batch_linger_s
    queued_at = first["batching"]["created_at"]
    assert (queue["endpoint"], queue["requests"], queue["reason"]) == (CHAT, 1, "lingering")
    assert queue["oldest_queued_at"] == queued_at
    assert abs(queue["until"] - queued_at - linger) <= 1
    assert stats["stuck"] == []
    assert (await quiet.other.get("/v1/stats")).json()["queue"] == []


async def test_a_pending_reply_says_when_its_answer_is_expected(quiet: Door) -> None:
    body = chat("when?", model="gpt-4.1-mini")
    assert (await ask(quiet, body))["batching"]["estimated_completion_at"] is None, "no history"
    with psycopg.connect(quiet.database_url) as conn:
        conn.execute(
            "insert into openaibatching.batch (state, endpoint, model, requests, bytes, tokens,"
            " upstream_status, completed, created_at, submitted_at, ended_at, closed_at)"
            " select 'closed', %s, 'gpt-4.1-mini', 1, 1, 1, 'completed', 1, at, at,"
            " at + interval '10 minutes', now() from generate_series(1, 3),"
            " lateral (select now() - interval '1 day' as at) as a",
            [CHAT],
        )

    async def expected() -> Any:
        return (await ask(quiet, body))["batching"]["estimated_completion_at"]

    batching = (await ask(quiet, body))["batching"]
    end = batching["created_at"] + quiet.service.settings.batch_linger_s + 600
    assert abs(await until(expected) - end) <= 1
    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": body}
    reply = await quiet.client.post(
        "/v1/requests", content=json.dumps(line), headers={"Content-Type": "application/jsonl"}
    )
    told = reply.json()["response"]["body"]["batching"]["estimated_completion_at"]
    assert abs(told - end) <= 1


async def test_batches_are_listed_newest_first_and_found_by_either_id(lively: Door) -> None:
    done = [await ask(lively, chat(f"batch {n}"), **WAIT) for n in range(3)]
    theirs = [each["batching"]["batch_id"] for each in done]
    page = await got(lively, "/v1/upstream_batches?limit=2")
    assert [batch["batch_id"] for batch in page["data"]] == [theirs[2], theirs[1]]
    assert page["has_more"] is True
    assert (page["first_id"], page["last_id"]) == tuple(batch["id"] for batch in page["data"])
    after = await got(lively, f"/v1/upstream_batches?limit=1&after={page['last_id']}")
    [batch] = after["data"]
    assert batch["batch_id"] == theirs[0]
    assert batch["object"] == "upstream_batch"
    assert (batch["requests"], batch["own_requests"]) == (1, 1)
    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    for name in (batch["id"], theirs[0]):
        same = await got(lively, f"/v1/upstream_batches/{name}")
        assert (same["id"], same["batch_id"]) == (batch["id"], theirs[0])


async def test_another_tenant_sees_neither_batches_nor_costs_nor_events(lively: Door) -> None:
    done = await ask(lively, chat("mine alone"), **WAIT)
    for name in (
        done["batching"]["batch_id"],
        "00000000-0000-0000-0000-000000000000",
        "%00",
        "%ED%A0%BD",
    ):
        refused(await lively.other.get(f"/v1/upstream_batches/{name}"), 404, "not_found", "id")
    id_ = done["batching"]["id"]
    refused(await lively.other.get(f"/v1/requests/{id_}/events"), 404, "not_found", "id")
    assert (await lively.other.get("/v1/upstream_batches")).json()["data"] == []
    assert (await lively.other.get("/v1/costs")).json()["data"] == []
    stats = (await lively.other.get("/v1/stats")).json()
    assert stats["tenant"] != (await got(lively, "/v1/stats"))["tenant"]
    assert not any(stats["requests"].values())
    assert stats["batches"] == stats["failures"] == stats["answers_by_hour"] == []


async def test_a_request_tells_its_whole_story(lively: Door) -> None:
    done = await ask(lively, chat("tell me everything"), **WAIT)
    name = done["batching"]["id"]

    async def to_the_end() -> list[dict[str, Any]] | None:  # the answer is there earlier
        steps: list[dict[str, Any]] = (await got(lively, f"/v1/requests/{name}/events"))["data"]
        return steps if any(step["to"] == "collected" for step in steps) else None

    story = await until(to_the_end)
    own = [(step["from"], step["to"]) for step in story if step["of"] == "request"]
    assert own == [(None, "queued"), ("queued", "in_progress"), ("in_progress", "completed")]
    batch = [step["to"] for step in story if step["of"] == "batch"]
    assert batch[:7] == ["claimed", "uploading", "uploaded", "creating", "submitted", "ended",
                         "collected"]  # fmt: skip
    assert {s["batch_id"] for s in story if s["of"] == "batch"} == {done["batching"]["batch_id"]}
    assert [step["at"] for step in story] == sorted(step["at"] for step in story)


async def test_a_flush_sends_what_waits_without_waiting_for_company(patient: Door) -> None:
    asked = await ask(patient, chat("now, please"))
    assert asked["batching"]["status"] == "queued"
    reply = await patient.client.post("/v1/flush")
    assert (reply.status_code, reply.json()) == (202, {"object": "flush", "requests": 1})
    done = await ask(patient, chat("now, please"), **WAIT)
    assert done["has_completed"]
    # And what comes later waits again.
    later = await ask(patient, chat("no hurry"))
    [queue] = (await got(patient, "/v1/stats"))["queue"]
    assert (later["batching"]["status"], queue["reason"]) == ("queued", "lingering")
