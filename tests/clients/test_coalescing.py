"""Calls in the air together travel together, and no caller can tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from clients.real_server import BatchServer
from clients.serving import serving
from clients.wire import AsyncWire
from openaibatching import AsyncOpenAIBatching

BULK, CHAT = "/v1/requests", "/v1/chat/completions"
CALLS = 200
FEW = 4
"""HTTP requests, where one would do on a machine that does nothing else."""


@pytest.fixture
async def wire() -> AsyncIterator[AsyncWire]:
    async with AsyncWire() as wire:
        yield wire


def client_of(url: str, key: str, wire: AsyncWire, **options: Any) -> AsyncOpenAIBatching:
    return AsyncOpenAIBatching(
        batch_server_url=url, batch_server_api_key=key, http_client=wire.http_client(),
        **{"max_retries": 0, **options},
    )  # fmt: skip


async def warm(client: AsyncOpenAIBatching, wire: AsyncWire) -> AsyncOpenAIBatching:
    """The client after its first call, in which the SDK looks up what platform it runs on: in a
    thread, so some calls would set out before others."""
    await asking(client, "first")
    wire.paths.clear()
    return client


@pytest.fixture
async def together(batch_server: BatchServer, wire: AsyncWire) -> AsyncOpenAIBatching:
    """A client of the real server, on a wire that counts."""
    return await warm(client_of(batch_server.url, batch_server.key, wire), wire)


def asking(client: AsyncOpenAIBatching, text: str, create: Any = None, **options: Any) -> Any:
    create = create or client.chat.completions.create
    return create(model="gpt-4o", messages=[{"role": "user", "content": text}], **options)


async def all_of(client: AsyncOpenAIBatching, *texts: str, **options: Any) -> list[Any]:
    """What each call gave or raised."""
    calls = (asking(client, text, **options) for text in texts)
    return await asyncio.gather(*calls, return_exceptions=True)


TEXTS = [f"together {n}" for n in range(CALLS)]


async def test_a_call_that_is_alone_is_sent_as_it_is(
    together: AsyncOpenAIBatching, wire: AsyncWire
) -> None:
    await asking(together, "alone")
    assert wire.paths == [CHAT]


async def test_many_calls_are_few_requests_and_each_has_its_own_answer(
    together: AsyncOpenAIBatching, wire: AsyncWire, batch_server: BatchServer
) -> None:
    pending = await all_of(together, *TEXTS)
    assert not any(each.has_completed for each in pending)
    assert len({each.batching.id for each in pending}) == CALLS
    await asyncio.to_thread(batch_server.finish)
    answers = await all_of(together, *TEXTS)
    assert [a.choices[0].message.content for a in answers] == [f"You said: {t}" for t in TEXTS]
    assert len(wire.paths) <= 2 * FEW


async def test_calls_that_wait_hold_one_connection_and_return_when_they_finish(
    together: AsyncOpenAIBatching, wire: AsyncWire, batch_server: BatchServer
) -> None:
    waiting = asyncio.gather(
        all_of(together.with_options(wait=True), *TEXTS),
        asyncio.to_thread(batch_server.finish),
    )
    answers, _ = await waiting
    assert [a.choices[0].message.content for a in answers] == [f"You said: {t}" for t in TEXTS]
    assert wire.most_at_once <= FEW


async def test_copies_of_a_client_travel_together(
    together: AsyncOpenAIBatching, wire: AsyncWire
) -> None:
    copies = [together.with_options(timeout=90) for _ in range(20)]
    await asyncio.gather(*(asking(copy, f"copy {n}") for n, copy in enumerate(copies)))
    assert len(wire.paths) <= 2 * FEW


async def test_every_resource_travels_along(
    together: AsyncOpenAIBatching, wire: AsyncWire, batch_server: BatchServer
) -> None:
    def ask() -> Any:
        return asyncio.gather(
            together.responses.create(model="gpt-4o", input="together"),
            together.responses.create(
                model="gpt-4o", messages=[{"role": "user", "content": "together"}]
            ),
            together.completions.create(model="gpt-3.5-turbo-instruct", prompt="together"),
            together.embeddings.create(model="text-embedding-3-small", input="together"),
            together.moderations.create(model="omni-moderation-latest", input="together"),
            together.images.generate(model="gpt-image-1", prompt="together"),
        )

    assert not any(each.has_completed for each in await ask())
    await asyncio.to_thread(batch_server.finish)
    response, chat, completion, embedding, moderation, images = await ask()
    assert wire.paths.count(BULK) >= 2
    assert response.output_text == chat.choices[0].message.content == "You said: together"
    assert completion.choices[0].text
    assert embedding.data[0].embedding
    assert moderation.results
    assert images.data


async def test_a_failure_is_its_own_callers_alone_and_not_retried(
    batch_server: BatchServer, wire: AsyncWire
) -> None:
    client = client_of(batch_server.url, batch_server.key, wire, max_retries=2)
    failing = "together [[simulate:status=400]]"
    await asking(client, failing)
    await asyncio.to_thread(batch_server.finish)
    wire.paths.clear()
    results: Any = await asyncio.gather(
        asking(client, "together good"),
        asking(client, failing),
        asking(client, "x", extra_headers={"Idempotency-Key": "k" * 256}),
        asking(client, "together good too"),
        return_exceptions=True,
    )
    good, failed, refused, also_good = results
    assert [good.has_completed, also_good.has_completed] == [False, False]
    assert isinstance(failed, openai.BadRequestError)
    assert failed.response.headers["x-should-retry"] == "false"
    assert failed.request.url.path == CHAT
    assert isinstance(refused, openai.BadRequestError)
    assert refused.code == "invalid_idempotency_key"
    assert BULK in wire.paths
    assert len(wire.paths) <= 3, "none is sent again"


async def test_a_key_names_its_own_call(together: AsyncOpenAIBatching, wire: AsyncWire) -> None:
    samples = await asyncio.gather(
        *(asking(together, "s", extra_headers={"Idempotency-Key": f"s-{n}"}) for n in range(5))
    )
    assert len({each.id for each in samples}) == 5
    assert BULK in wire.paths


def _http_response(result: Any) -> Any:
    """The HTTP response that a raw response holds, or that an error was made of."""
    return result.response if isinstance(result, openai.APIStatusError) else result.http_response


async def test_a_raw_response_is_the_one_that_the_call_alone_would_have_had(
    together: AsyncOpenAIBatching, batch_server: BatchServer, patient_server: BatchServer,
    wire: AsyncWire,
) -> None:  # fmt: skip
    ours = ("content-type", "x-batching-id", "x-batching-status", "retry-after", "x-should-retry")
    texts = ("raw one", "raw ü\u2028", "raw [[simulate:status=400]]")
    queued = client_of(patient_server.url, patient_server.key, wire)
    await all_of(together, *texts)
    await asyncio.to_thread(batch_server.finish)
    for client in (queued, together):
        wire.paths.clear()
        raw = client.chat.completions.with_raw_response
        calls = [asking(client, text, raw.create) for text in texts]
        company = await asyncio.gather(*calls, return_exceptions=True)
        assert BULK in wire.paths
        for text, travelled in zip(texts, company, strict=True):
            alone: Any = await asyncio.gather(
                asking(client, text, raw.create), return_exceptions=True
            )
            one, other = _http_response(alone[0]), _http_response(travelled)
            assert one.status_code == other.status_code
            assert {n: one.headers.get(n) for n in ours} == {n: other.headers.get(n) for n in ours}
            assert one.content == other.content
            assert other.elapsed is not None


async def test_a_cancelled_call_leaves_its_company_alone(
    together: AsyncOpenAIBatching, wire: AsyncWire, batch_server: BatchServer
) -> None:
    waiting = together.with_options(wait=True)
    calls = [asyncio.create_task(asking(waiting, f"cancelled {n}")) for n in range(5)]
    await wire.until(lambda: wire.open > 0)
    calls[2].cancel()
    await asyncio.to_thread(batch_server.finish)
    results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results.pop(2), asyncio.CancelledError)
    assert all(each.has_completed for each in results)


async def test_a_bulk_call_that_nobody_waits_for_any_more_is_hung_up(
    patient_server: BatchServer, wire: AsyncWire
) -> None:
    client = client_of(patient_server.url, patient_server.key, wire, wait=True)
    calls = [asyncio.create_task(asking(client, f"hung up {n}")) for n in range(5)]
    await wire.until(lambda: BULK in wire.paths)
    for call in calls:
        call.cancel()
    await wire.until(lambda: wire.open == 0)


async def test_a_timeout_is_its_own_callers_alone(
    patient_server: BatchServer, wire: AsyncWire
) -> None:
    client = client_of(patient_server.url, patient_server.key, wire)
    held = {"Prefer": "wait=60"}
    results: Any = await asyncio.gather(
        asking(client, "slow", extra_headers=held, timeout=0.5),
        asking(client, "slow too", extra_headers=held, timeout=0.5),
        asking(client, "quick"),
        asking(client, "quick too"),
        return_exceptions=True,
    )
    assert [type(each) for each in results[:2]] == [openai.APITimeoutError] * 2
    assert [each.has_completed for each in results[2:]] == [False, False]


async def test_a_refusal_of_the_whole_is_every_callers(
    batch_server: BatchServer, wire: AsyncWire
) -> None:
    refused = await all_of(client_of(batch_server.url, "wrong", wire), "a", "b")
    assert [type(each) for each in refused] == [openai.AuthenticationError] * 2
    assert [each.code for each in refused] == ["invalid_api_key"] * 2


async def test_a_server_that_is_not_there_is_every_callers(wire: AsyncWire) -> None:
    failed = await all_of(client_of("http://127.0.0.1:9", "k", wire), "a", "b")
    assert [type(each) for each in failed] == [openai.APIConnectionError] * 2


async def test_what_does_not_fit_together_goes_alone(
    together: AsyncOpenAIBatching, wire: AsyncWire
) -> None:
    await asyncio.gather(
        asking(together, "x" * 1_100_000),
        asking(together, "with a query", extra_query={"a": "b"}),
        asking(together, "one header", extra_headers={"X-Mine": "1"}),
        asking(together, "another header", extra_headers={"X-Mine": "2"}),
    )
    assert wire.paths == [CHAT] * 4


async def test_a_body_that_the_server_cannot_read_harms_no_other(
    together: AsyncOpenAIBatching, wire: AsyncWire
) -> None:
    nested = json.loads("[" * 300 + "]" * 300)
    results: Any = await asyncio.gather(
        asking(together, "good"),
        asking(together, "deep", extra_body={"metadata": nested}),
        asking(together, "also good"),
        return_exceptions=True,
    )
    good, deep, also_good = results
    assert [good.has_completed, also_good.has_completed] == [False, False]
    assert isinstance(deep, openai.BadRequestError)
    assert deep.code == "invalid_json"
    assert sorted(wire.paths) == [CHAT, BULK], "only that one is asked for again, alone"


async def test_hooks_of_the_http_client_see_every_call(
    batch_server: BatchServer, wire: AsyncWire
) -> None:
    seen: list[str] = []

    async def hook(request: Any) -> None:
        seen.append(request.url.path)

    http_client = wire.http_client(event_hooks={"request": [hook]})
    async with AsyncOpenAIBatching(
        batch_server_url=batch_server.url, batch_server_api_key=batch_server.key,
        http_client=http_client,
    ) as client:  # fmt: skip
        await all_of(client, "a", "b", "c")
    assert seen == [CHAT] * 3


class Odd:
    """A server that treats the bulk door as a test wants it, and answers single calls."""

    def __init__(self, bulk: Any) -> None:
        self.bulk = bulk
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.asked.append(request.url.path)
        done = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
        reply: Response = JSONResponse(done)
        if request.url.path == BULK:
            reply = self.bulk([json.loads(line) for line in body.split(b"\n") if line])
        await reply(scope, receive, send)


async def test_a_server_without_a_bulk_door_is_asked_for_each(wire: AsyncWire) -> None:
    odd = Odd(lambda _: JSONResponse({"error": {"message": "no such path"}}, 404))
    with serving(odd) as url:
        for _ in range(2):
            answers = await all_of(client_of(url, "k", wire), "a", "b", "c")
            assert [each.id for each in answers] == ["x"] * 3
        client = await warm(client_of(url, "k", wire), wire)
        odd.asked.clear()
        for _ in range(2):
            await all_of(client, "a", "b")
        assert odd.asked == [BULK, CHAT, CHAT, CHAT, CHAT], "once is enough to know"


def _line(custom_id: str) -> bytes:
    body = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}'
    return (
        b'{"id":"batchreq_1","custom_id":"%s","response":{"status_code":200,"request_id":"r",'
        b'"body":%s},"error":null}\n' % (custom_id.encode(), body)
    )


@pytest.mark.parametrize("garbled", [b"", b'{"what":"is this"}\n', b'{"id":null,"custom_id":"77"'])
async def test_calls_whose_answer_does_not_come_are_sent_again(
    wire: AsyncWire, garbled: bytes
) -> None:
    def half(lines: list[Any]) -> Response:
        answered = [_line(each["custom_id"]) for each in lines[: (len(lines) + 1) // 2]]
        return StreamingResponse(iter([*answered, garbled]), media_type="application/jsonl")

    odd = Odd(half)
    with serving(odd) as url:
        client = await warm(client_of(url, "k", wire), wire)
        results = await all_of(client, *"abcd")
        assert [each.id for each in results[:2]] == ["x"] * 2
        assert [type(each) for each in results[2:]] == [openai.APIConnectionError] * 2
        answers = await all_of(client_of(url, "k", wire, max_retries=3), *"abcd")
    assert [each.id for each in answers] == ["x"] * 4
