"""`X-Batching-Body: first`: a prompt with a clock in it is asked once; and look-up by key."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from openaibatching import AsyncOpenAIBatching
from openaibatching.server.domain.endpoints import CHAT, RESPONSES
from support.door import Door, refused
from support.steps import chat
from support.world import KEY

FIRST = {"X-Batching-Body": "first"}
JSONL = {"Content-Type": "application/jsonl"}


def at(hour: int) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": f"It is {hour}:00. What is for lunch?"}


async def ask(door: Door, key: str | None, body: dict[str, Any], **headers: str) -> httpx2.Response:
    named = {} if key is None else {"Idempotency-Key": key}
    return await door.client.post(RESPONSES, json=body, headers={**named, **headers})


async def test_the_first_body_under_a_key_counts(quiet: Door) -> None:
    ids = set()
    for hour in (11, 12, 13):
        reply = await ask(quiet, "lunch", at(hour), **FIRST)
        assert reply.status_code == 202
        ids.add(reply.headers["x-batching-id"])
    assert len(ids) == 1
    assert json.loads(quiet.stored(ids.pop())) == at(11)
    refused(await ask(quiet, "lunch", at(14)), 422, "idempotency_key_reused")
    assert (await ask(quiet, "lunch", at(11))).status_code == 202


async def test_of_many_at_once_one_counts(quiet: Door) -> None:
    replies = await asyncio.gather(*(ask(quiet, "many", at(n), **FIRST) for n in range(20)))
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.headers["x-batching-id"] for reply in replies}) == 1


async def test_without_a_key_the_body_names_the_request(quiet: Door) -> None:
    ids = {
        (await ask(quiet, None, at(hour), **FIRST)).headers["x-batching-id"] for hour in (1, 2, 1)
    }
    assert len(ids) == 2


@pytest.mark.parametrize("word", ["last", "", "first,first"])
async def test_another_word_is_refused(quiet: Door, word: str) -> None:
    headers = {"X-Batching-Body": word}
    refused(await ask(quiet, "word", at(1), **headers), 400, "invalid_value", "X-Batching-Body")
    reply = await quiet.client.post("/v1/requests", content=b"{}\n", headers={**JSONL, **headers})
    refused(reply, 400, "invalid_value", "X-Batching-Body")


async def test_a_bulk_call_says_it_for_all_its_lines(quiet: Door) -> None:
    def line(key: str | None, hour: int) -> str:
        made = {"custom_id": f"{key}", "method": "POST", "url": RESPONSES, "body": at(hour)}
        return json.dumps({**made, "idempotency_key": key})

    async def post(*lines: str, **headers: str) -> list[tuple[str | None, int]]:
        reply = await quiet.client.post(
            "/v1/requests", content="\n".join(lines), headers={**JSONL, **headers}
        )
        read = [json.loads(text) for text in reply.content.splitlines()]
        return [(each["id"], each["response"]["status_code"]) for each in read]

    first = await post(line("bulk", 1), line("bulk", 2), line(None, 3), line(None, 4), **FIRST)
    assert {status for _, status in first} == {202}
    ids = [id_ for id_, _ in first]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert json.loads(quiet.stored(str(ids[0]))) == at(1)
    assert await post(line("bulk", 5), **FIRST) == [(ids[0], 202)]
    assert await post(line("bulk", 5)) == [(None, 422)]


async def test_our_client_may_say_it_for_calls_that_travel_together(quiet: Door) -> None:
    async with AsyncOpenAIBatching(
        batch_server_url=quiet.service.url, batch_server_api_key=KEY, default_headers=FIRST
    ) as client:
        made = await asyncio.gather(
            *(
                client.responses.create(
                    **at(n), extra_headers={"Idempotency-Key": f"client-{n % 2}"}
                )
                for n in range(10)
            )
        )
    assert len({response.id for response in made}) == 2


async def listed(door: Door, key: str, **query: Any) -> list[str]:
    reply = await door.client.get("/v1/requests", params={"idempotency_key": key, **query})
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert (body["object"], body["has_more"]) == ("list", body["has_more"])
    ids = [request["id"] for request in body["data"]]
    assert (body["first_id"], body["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids


async def test_what_a_key_names_is_found_by_it_at_every_endpoint(quiet: Door) -> None:
    key = {"Idempotency-Key": "find me"}
    one = (await ask(quiet, "find me", at(1))).headers["x-batching-id"]
    reply = await quiet.client.post(CHAT, json=chat("find"), headers=key)
    two = reply.headers["x-batching-id"]
    await quiet.other.post(RESPONSES, json=at(1), headers=key)
    assert await listed(quiet, "find me") == [two, one]
    assert await listed(quiet, "find me", after=two) == [one]
    assert await listed(quiet, "find me", limit=1) == [two]
    assert await listed(quiet, "find me", status="queued") == [two, one]
    assert await listed(quiet, "find me", status="failed") == []
    assert await listed(quiet, "find nobody") == []


async def test_a_key_that_is_none_is_refused_and_an_empty_one_is_left_out(quiet: Door) -> None:
    reply = await quiet.client.get("/v1/requests", params={"idempotency_key": "k" * 256})
    refused(reply, 400, "invalid_idempotency_key")
    everything = await quiet.client.get("/v1/requests")
    assert (await quiet.client.get("/v1/requests?idempotency_key=")).content == everything.content


@pytest.mark.parametrize("key", ["é", "日本 1", "\U0001f600", "\x00"])
async def test_a_key_of_any_letters_is_the_same_in_a_header_a_line_and_a_list(
    quiet: Door, key: str
) -> None:
    line = {"custom_id": "c", "method": "POST", "url": RESPONSES, "body": at(9)}
    reply = await quiet.client.post(
        "/v1/requests", content=json.dumps({**line, "idempotency_key": key}), headers=JSONL
    )
    in_line = reply.json()["id"]
    assert await listed(quiet, key) == [in_line]
    if key != "\x00":  # which no header can have
        reply = await quiet.client.post(
            RESPONSES, json=at(9), headers=[(b"Idempotency-Key", key.encode())]
        )
        assert reply.headers["x-batching-id"] == in_line
