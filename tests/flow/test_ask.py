"""Under /ask/v1 an unfinished call is an error, so that nothing can take it for an answer."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from flow.test_door_replies import CALLS
from openaibatching.server.api.modes import Mode
from support.door import WAIT, Door
from support.world import sdk

JSONL = {"Content-Type": "application/jsonl"}


def check_unfinished(status: int, body: dict[str, Any]) -> None:
    assert status == 425
    assert list(body) == ["error", "has_completed", "batching"]
    assert body["error"]["code"] == "not_finished"
    assert body["has_completed"] is False


@pytest.mark.parametrize("path", CALLS)
async def test_an_unfinished_call_is_425_and_the_same_request(quiet: Door, path: str) -> None:
    plain = await quiet.client.post(path, json=CALLS[path])
    asked = await quiet.client.post(f"/ask{path}", json=CALLS[path])
    check_unfinished(asked.status_code, asked.json())
    assert asked.json()["batching"] == plain.json()["batching"]
    for name in ("x-batching-id", "x-batching-status", "retry-after"):
        assert asked.headers[name] == plain.headers[name]
    assert asked.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in plain.headers


async def test_what_reads_a_request_later_is_there_too(quiet: Door) -> None:
    id_ = (await quiet.client.post("/v1/responses", json=CALLS["/v1/responses"])).json()["id"]
    for path in (f"/v1/responses/{id_}", f"/v1/chat/completions/{id_}"):
        reply = await quiet.client.get(f"/ask{path}")
        check_unfinished(reply.status_code, reply.json())
    # What describes a request is no answer, so it is the same.
    for path in (f"/v1/requests/{id_}", "/v1/requests?limit=1", "/v1/costs"):
        asked, plain = [await quiet.client.get(prefix + path) for prefix in ("/ask", "")]
        assert (asked.status_code, asked.content) == (200, plain.content)


@pytest.mark.parametrize("prefer", ["", "wait=0.1", "wait=0.1, order=finished"])
async def test_a_bulk_line_is_answered_as_its_call(quiet: Door, prefer: str) -> None:
    body = {"model": "gpt-4o", "input": "in a line"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    sent = f"{json.dumps(line)}\nnonsense\n"
    reply = await quiet.client.post(
        "/ask/v1/requests", content=sent, headers=JSONL | {"Prefer": prefer}
    )
    assert reply.status_code == 200
    by_id = {
        each["custom_id"]: each["response"] for each in map(json.loads, reply.text.splitlines())
    }
    check_unfinished(by_id["a"]["status_code"], by_id["a"]["body"])
    assert by_id[None]["status_code"] == 400


@pytest.mark.parametrize("path", CALLS)
async def test_a_finished_call_is_answered_as_ever(lively: Door, path: str) -> None:
    asked = await lively.client.post(f"/ask{path}", json=CALLS[path], headers=WAIT)
    assert asked.status_code == 200
    assert asked.headers["preference-applied"] == "wait"
    plain = await lively.client.post(path, json=CALLS[path])
    assert (asked.content, asked.headers["x-batching-id"]) == (
        plain.content,
        plain.headers["x-batching-id"],
    )


async def test_a_failed_call_and_a_refused_one_are_what_they_are(lively: Door) -> None:
    failing = {"model": "gpt-4o", "input": "[[simulate:status=418]]"}
    failed = await lively.client.post("/ask/v1/responses", json=failing, headers=WAIT)
    assert failed.status_code == 418
    assert failed.headers["x-should-retry"] == "false"
    refused = await lively.client.post("/ask/v1/responses", json={"input": "x"})
    assert refused.status_code == 400


async def test_the_official_sdk_raises_at_once_and_asks_no_second_time(quiet: Door) -> None:
    async with sdk(quiet.service) as client:
        asking = client.with_options(base_url=f"{quiet.service.url}/ask/v1", max_retries=5)
        with pytest.raises(openai.APIStatusError) as raised:
            await asking.responses.create(model="gpt-4o", input="Hello")
    assert raised.value.status_code == 425
    assert raised.value.code == "not_finished"


async def test_only_the_api_is_there_under_a_prefix_and_only_once(quiet: Door) -> None:
    for mode in Mode:
        assert (await quiet.client.get(f"{mode.value}/v1/stats")).status_code == 200
        assert (await quiet.nobody.get(f"{mode.value}/v1/stats")).status_code == 401
        reply = await quiet.client.get(f"{mode.value}/v1/nothing")
        assert reply.status_code == 404
        assert f"{mode.value}/v1/nothing" in reply.json()["error"]["message"]
    for path in ("/ask", "/ask/", "/ask/health", "/ask/ask/v1/stats", "/asks/v1/stats", "/ask/v1x"):
        assert (await quiet.client.get(path)).status_code == 404
