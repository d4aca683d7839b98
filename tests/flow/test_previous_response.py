"""`previous_response_id` may be our id: OpenAI is sent its own, and the call keeps its name."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai

from openaibatching import AsyncOpenAIBatching
from openaibatching.server.domain.endpoints import CHAT, RESPONSES
from openaibatching.server.domain.request import ID_PREFIX
from support.door import WAIT, Door, refused
from support.world import KEY, sdk

NOBODY = ID_PREFIX + "0" * 32
JSONL = {"Content-Type": "application/jsonl"}


def on_from(id_: str, text: str = "And then?") -> dict[str, Any]:
    return {"previous_response_id": id_, "model": "gpt-4o", "input": text}


async def completed(door: Door, text: str) -> tuple[str, str]:
    """(our id, OpenAI's) of a Response that has completed."""
    done = await door.answered({"model": "gpt-4o", "input": text})
    assert done.status_code == 200
    return done.headers["x-batching-id"], done.json()["id"]


async def queued(door: Door, text: str) -> str:
    reply = await door.client.post(RESPONSES, json={"model": "gpt-4o", "input": text})
    assert reply.status_code == 202
    return str(reply.headers["x-batching-id"])


async def test_openai_is_sent_its_own_id_in_the_place_of_ours(lively: Door) -> None:
    ours, theirs = await completed(lively, "once upon a time")
    done = await lively.answered(on_from(ours))
    assert (done.status_code, done.json()["previous_response_id"]) == (200, theirs)
    stored = lively.stored(done.headers["x-batching-id"])
    assert stored == json.dumps(on_from(theirs), separators=(",", ":")).encode()


async def test_the_same_call_is_found_after_the_earlier_request_was_deleted(lively: Door) -> None:
    ours, _ = await completed(lively, "soon forgotten")
    done = await lively.answered(on_from(ours, "forgotten?"))
    assert (await lively.client.delete(f"/v1/requests/{ours}")).status_code == 200
    again = await lively.client.post(RESPONSES, json=on_from(ours, "forgotten?"))
    assert (again.status_code, again.content) == (200, done.content)
    new = await lively.client.post(RESPONSES, json=on_from(ours, "what?"))
    refused(new, 400, "previous_response_not_found", "previous_response_id")


async def test_while_there_is_no_answer_it_is_refused_and_not_tried_again(quiet: Door) -> None:
    ours = await queued(quiet, "not yet")
    before = quiet.rows("default")
    reply = await quiet.client.post(RESPONSES, json=on_from(ours))
    refused(reply, 409, "previous_response_unavailable", "previous_response_id")
    assert reply.headers["x-should-retry"] == "false"
    await quiet.client.post(f"/v1/requests/{ours}/cancel")
    reply = await quiet.client.post(RESPONSES, json=on_from(ours))
    assert "cancelled" in refused(
        reply, 409, "previous_response_unavailable", "previous_response_id"
    )
    assert quiet.rows("default") == before


async def test_of_one_that_failed_there_is_nothing_to_go_on_from(lively: Door) -> None:
    failed = await lively.answered({"model": "gpt-4o", "input": "[[simulate:status=400]] no"})
    ours = failed.headers["x-batching-id"]
    reply = await lively.client.post(RESPONSES, json=on_from(ours))
    refused(reply, 409, "previous_response_unavailable", "previous_response_id")


async def test_what_is_not_there_is_refused_as_by_openai(lively: Door) -> None:
    ours, _ = await completed(lively, "mine")
    chat = await lively.answered({"model": "gpt-4o", "messages": []}, CHAT)
    for client, name in (
        (lively.client, NOBODY),
        (lively.other, ours),
        (lively.client, chat.headers["x-batching-id"]),
    ):
        reply = await client.post(RESPONSES, json=on_from(name))
        said = refused(reply, 400, "previous_response_not_found", "previous_response_id")
        assert said == f"Previous response with id '{name}' not found."
    assert lively.rows("other") == 0


async def test_lines_of_a_bulk_call_go_on_too(lively: Door) -> None:
    ours, theirs = await completed(lively, "in bulk")
    names = [ours, NOBODY, ours]
    content = "\n".join(
        json.dumps({"custom_id": "c", "method": "POST", "url": RESPONSES, "body": on_from(n, "b")})
        for n in names
    )
    reply = await lively.client.post("/v1/requests", content=content, headers={**JSONL, **WAIT})
    lines = [json.loads(line)["response"] for line in reply.content.splitlines()]
    assert [line["status_code"] for line in lines] == [200, 400, 200]
    assert lines[0]["body"]["previous_response_id"] == theirs
    assert lines[1]["body"]["error"]["code"] == "previous_response_not_found"


async def test_a_key_names_such_a_call_as_any_other(lively: Door) -> None:
    ours, _ = await completed(lively, "keyed")
    headers = {"Idempotency-Key": "on-from"}
    ids = set()
    for _ in range(2):
        reply = await lively.client.post(RESPONSES, json=on_from(ours, "k"), headers=headers)
        ids.add(reply.headers["x-batching-id"])
    assert len(ids) == 1
    other = await lively.client.post(RESPONSES, json=on_from(ours, "l"), headers=headers)
    refused(other, 422, "idempotency_key_reused")


def raised(errors: list[Any]) -> None:
    """Check that each says what it is, and that it is not to be sent again."""
    assert len(errors) > 1
    for error in errors:
        assert isinstance(error, openai.ConflictError)
        assert error.code == "previous_response_unavailable"
        assert error.response.headers["x-should-retry"] == "false"


async def test_the_stock_sdk_raises_it(quiet: Door) -> None:
    name = await queued(quiet, "stock")
    async with sdk(quiet.service) as client:
        calls = (client.responses.create(**on_from(name, f"sdk {n}")) for n in range(2))
        raised(await asyncio.gather(*calls, return_exceptions=True))


async def test_calls_that_travel_together_raise_it(quiet: Door) -> None:
    name, url = await queued(quiet, "together"), quiet.service.url
    client = AsyncOpenAIBatching(batch_server_url=url, batch_server_api_key=KEY, max_retries=0)
    async with client:
        await client.responses.create(model="gpt-4o", input="the first call looks the platform up")
        calls = (client.responses.create(**on_from(name, f"sdk {n}")) for n in range(5))
        raised(await asyncio.gather(*calls, return_exceptions=True))
