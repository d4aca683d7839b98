"""Replies: valid objects of every endpoint, answers byte for byte, failures as OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types import ImagesResponse

from openaibatching.server.app import Service
from openaibatching.simulator import Simulator
from openaibatching.simulator.engine.canonical import body_sha256, parse
from support.door import WAIT, Door
from support.world import http, sdk

PICTURE = [{"image_url": "data:image/png;base64,aGk="}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "gpt-4o", "input": "Hello \u2028 \U0001f600"},
    "/v1/chat/completions": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"},
    "/v1/embeddings": {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": "float",
    },
    "/v1/moderations": {"model": "omni-moderation-latest", "input": "nice"},
    "/v1/images/generations": {"model": "gpt-image-1", "prompt": "a cat"},
    "/v1/images/edits": {"model": "gpt-image-1", "prompt": "a hat", "images": PICTURE},
}


async def by_sdk(client: openai.AsyncOpenAI, path: str, **options: Any) -> Any:
    """The call at `path` by the official SDK's own method for it, and its reply's object."""
    body: Any = CALLS[path]
    if path == "/v1/images/edits":  # the SDK's own method sends a form, which is not for batches
        return await client.post(
            path.removeprefix("/v1"),
            body=body,
            cast_to=ImagesResponse,
            options={"headers": options.get("extra_headers", {})},
        )
    resource: Any = {
        "/v1/responses": client.responses,
        "/v1/chat/completions": client.chat.completions,
        "/v1/completions": client.completions,
        "/v1/embeddings": client.embeddings,
        "/v1/moderations": client.moderations,
        "/v1/images/generations": client.images,
    }[path]
    create = resource.generate if path == "/v1/images/generations" else resource.create
    return await create(**body, **options)


def members(reply: Any) -> tuple[bool, dict[str, Any]]:
    """The two added members, and that there are no others beyond the schema."""
    extra = dict(reply.model_extra)
    return extra.pop("has_completed"), extra.pop("batching")


@pytest.mark.parametrize("path", CALLS)
async def test_the_strict_sdk_takes_a_pending_reply(quiet: Door, path: str) -> None:
    async with sdk(quiet.service, _strict_response_validation=True) as client:
        reply = await by_sdk(client, path)
    has_completed, batching = members(reply)
    assert has_completed is False
    assert (batching["status"], batching["batch_id"], batching["attempts"]) == ("queued", None, 0)
    assert batching["completed_at"] is batching["estimated_completion_at"] is None
    for name in ("output", "choices", "data", "results"):
        assert getattr(reply, name, []) == []
    if hasattr(reply, "id"):
        assert reply.id == batching["id"]


@pytest.mark.parametrize("path", CALLS)
async def test_the_strict_sdk_takes_the_answer(lively: Door, path: str) -> None:
    async with sdk(lively.service, _strict_response_validation=True) as client:
        reply = await by_sdk(client, path, extra_headers=WAIT)
        has_completed, batching = members(reply)
        assert has_completed is True
        assert (batching["status"], batching["attempts"]) == ("completed", 1)
        assert batching["batch_id"].startswith("batch_")
        assert batching["completed_at"] >= batching["created_at"]
        assert members(await by_sdk(client, path)) == (has_completed, batching)


async def test_the_stock_sdk_reads_embeddings_that_it_asked_for_in_base64(lively: Door) -> None:
    async with sdk(lively.service) as client:
        reply = await client.embeddings.create(
            model="text-embedding-3-small", input=["a", "b"], extra_headers=WAIT
        )
    assert [type(item.embedding[0]) for item in reply.data] == [float, float]


@pytest.mark.parametrize("path", CALLS)
async def test_a_pending_reply_has_its_headers(quiet: Door, path: str) -> None:
    reply = await quiet.client.post(path, json=CALLS[path])
    assert reply.status_code == 202
    assert reply.headers["x-batching-id"] == reply.json()["batching"]["id"]
    assert reply.headers["x-batching-status"] == "queued"
    assert reply.headers["retry-after"] == "30"
    assert reply.headers["content-type"] == "application/json"
    again = await quiet.client.post(path, json=CALLS[path])
    assert again.content == reply.content


def output_lines(simulator: Simulator) -> dict[str, bytes]:
    """{custom_id: line} of everything that OpenAI has written."""
    lines: dict[str, bytes] = {}
    for file in simulator.engine.store.files(simulator.clock()):
        if file.purpose == "batch_output":
            with file.content.open() as reader:
                for line in reader:
                    lines[json.loads(line)["custom_id"]] = line
    return lines


@pytest.mark.parametrize("path", CALLS)
async def test_an_answer_is_openais_byte_for_byte_and_two_members(
    service: Service, simulator: Simulator, path: str
) -> None:
    # The result file is deleted once its answers are stored, so it is read while it is there. In
    # a world of its own: another request's file would run into the gate instead.
    gate = simulator.gate("DELETE /files/{id}")
    try:
        async with http(service) as client:
            reply = await client.post(path, json=CALLS[path], headers=WAIT)
        line = output_lines(simulator)[reply.headers["x-batching-id"]]
    finally:
        gate.release()
    assert reply.status_code == 200
    assert reply.headers["x-batching-status"] == "completed"
    assert "retry-after" not in reply.headers
    start = line.index(b'"body": ') + len(b'"body": ')
    body = line[start : line.rindex(b'}, "error"')]
    assert parse(body) == parse(line)["response"]["body"]
    assert reply.content.startswith(body[:-1] + b',"has_completed":true,"batching":{')
    assert list(reply.json()) == [*parse(body), "has_completed", "batching"]


async def test_numbers_and_odd_texts_reach_openai_exactly(lively: Door) -> None:
    text = '"\\ud800 \\u0000 \\u2028"'
    number = "123456789012345678901234567890"
    raw = f'{{"model":"gpt-4o","input":{text},"metadata":{{"n":"{number}"}},"seed":{number}}}'
    reply = await lively.client.post(
        "/v1/responses", content=raw, headers={**WAIT, "Content-Type": "application/json"}
    )
    assert reply.headers["x-batching-status"] in ("completed", "failed")
    value = parse(raw.encode())
    digests = {**lively.simulator.ledger.counts(), **lively.simulator.ledger.failures}
    assert body_sha256(value) in digests


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_refusal_by_openai_is_told_as_it_was(lively: Door, status: int) -> None:
    async with sdk(lively.service) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.responses.create(
                model="gpt-4o", input=f"[[simulate:status={status}]]", extra_headers=WAIT
            )
    response = caught.value.response
    assert response.status_code == status
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-batching-status"] == "failed"
    body = response.json()
    assert list(body) == ["error", "has_completed", "batching"]
    assert body["error"] == {
        "message": "This request is refused.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert body["has_completed"] is True


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status=500", 500, None),
        ("status=429", 429, "rate_limit_exceeded"),
        ("expired", 504, "batch_expired"),
        ("missing", 502, "result_missing"),
        ("timeout", 504, "request_timeout"),
        ("empty", 502, "result_missing"),
    ],
)
async def test_out_of_attempts_is_told_once_and_not_retried_by_the_sdk(
    lively: Door, fault: str, status: int, code: str | None
) -> None:
    async with sdk(lively.service) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.responses.create(
                model="gpt-4o", input=f"[[simulate:{fault}]]", extra_headers=WAIT
            )
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_a_cancelled_request_is_a_409(quiet: Door) -> None:
    body = {"model": "m", "input": "to be cancelled"}
    id_ = (await quiet.client.post("/v1/responses", json=body)).json()["id"]
    assert (await quiet.client.post(f"/v1/requests/{id_}/cancel")).status_code == 200
    async with sdk(quiet.service) as client:
        with pytest.raises(openai.ConflictError) as caught:
            await client.responses.create(**body)  # type: ignore[call-overload]
    assert caught.value.code == "request_cancelled"
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"
    reply = caught.value.response
    assert reply.headers["x-batching-status"] == "cancelled"
    assert list(reply.json()) == ["error", "has_completed", "batching"]


async def test_in_progress_names_openais_batch(sent: Door) -> None:
    body = {"model": "m", "input": "on its way"}
    id_ = (await sent.client.post("/v1/responses", json=body)).json()["id"]
    reply = await sent.in_batch(id_)
    assert reply.status_code == 202
    assert reply.headers["x-batching-status"] == reply.json()["status"] == "in_progress"
    batching = reply.json()["batching"]
    assert batching["batch_id"] == sent.simulator.batches()[-1]["id"]
    assert batching["attempts"] == 1
