"""Every call of the official SDK, before and after its batch, with both clients."""

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import openai
import openai.types as official
import openai.types.chat as official_chat
import openai.types.responses as official_responses
import pytest

from clients.real_server import BatchServer
from openaibatching import (
    AsyncOpenAIBatching,
    Batched,
    Batching,
    BatchRequest,
    ChatCompletion,
    Completion,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
    OpenAIBatching,
    ParsedChatCompletion,
    ParsedResponse,
    Response,
)
from openaibatching.simulator.engine.arrays import dimensions, vector

MESSAGES = [{"role": "user", "content": "Hello, world!"}]
Call = Callable[[Any], Any]
# name -> the call, our type of its answer, and what is empty until there is one
CALLS: dict[str, tuple[Call, Any, str]] = {
    "responses.create(input)": (
        lambda c: c.responses.create(model="gpt-4o", input="Hello, world!"),
        Response,
        "output",
    ),
    "responses.create(messages)": (
        lambda c: c.responses.create(model="gpt-4o", messages=MESSAGES),
        ChatCompletion,
        "choices",
    ),
    "responses.parse": (
        lambda c: c.responses.parse(model="gpt-4o", input="Hello, world!"),
        ParsedResponse,
        "output",
    ),
    "chat.completions.create": (
        lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES),
        ChatCompletion,
        "choices",
    ),
    "chat.completions.parse": (
        lambda c: c.chat.completions.parse(model="gpt-4o", messages=MESSAGES),
        ParsedChatCompletion,
        "choices",
    ),
    "completions.create": (
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hello"),
        Completion,
        "choices",
    ),
    "embeddings.create": (
        lambda c: c.embeddings.create(model="text-embedding-3-small", input="Hello"),
        CreateEmbeddingResponse,
        "data",
    ),
    "moderations.create": (
        lambda c: c.moderations.create(model="omni-moderation-latest", input="Hello"),
        ModerationCreateResponse,
        "results",
    ),
    "images.generate": (
        lambda c: c.images.generate(model="gpt-image-1", prompt="A dot"),
        ImagesResponse,
        "data",
    ),
    "images.edit": (
        lambda c: c.images.edit(model="gpt-image-1", prompt="A dot", image=b"\x89PNG"),
        ImagesResponse,
        "data",
    ),
}
OFFICIAL: dict[type[Any], type[Any]] = {
    Response: official_responses.Response,
    ParsedResponse: official_responses.ParsedResponse,
    ChatCompletion: official_chat.ChatCompletion,
    ParsedChatCompletion: official_chat.ParsedChatCompletion,
    Completion: official.Completion,
    CreateEmbeddingResponse: official.CreateEmbeddingResponse,
    ModerationCreateResponse: official.ModerationCreateResponse,
    ImagesResponse: official.ImagesResponse,
}
Client = OpenAIBatching | AsyncOpenAIBatching


@pytest.fixture(params=["sync", "async"])
def either_client(
    request: pytest.FixtureRequest, client: OpenAIBatching, async_client: AsyncOpenAIBatching
) -> Client:
    return client if request.param == "sync" else async_client


async def answer(value: Any) -> Any:
    return await value if isawaitable(value) else value


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_pending_first_and_answered_when_made_again(
    name: str, either_client: Client, batch_server: BatchServer
) -> None:
    call, kind, content = CALLS[name]
    first = await answer(call(either_client))
    assert isinstance(first, kind)
    assert isinstance(first, OFFICIAL[kind])
    assert isinstance(first, Batched)
    assert first.has_completed is False
    assert getattr(first, content) == []
    assert isinstance(first.batching, Batching)
    assert first.batching.status in ("queued", "in_progress")
    assert first.batching.completed_at is None

    batch_server.finish()
    again = await answer(call(either_client.with_options(wait=True)))
    assert isinstance(again, kind)
    assert isinstance(again, OFFICIAL[kind])
    assert again.has_completed is True
    assert len(getattr(again, content)) == 1
    assert again.batching.id == first.batching.id
    assert again.batching.status == "completed"


@pytest.mark.parametrize("name", [name for name in CALLS if "parse" not in name])
async def test_a_call_works_through_the_raw_response_as_well(
    name: str, either_client: Client, batch_server: BatchServer
) -> None:
    call, kind, _ = CALLS[name]
    raw = await answer(call(either_client.with_raw_response))
    assert raw.status_code == 202
    assert isinstance(raw.parse(), kind)
    assert raw.headers["x-batching-id"] == raw.parse().batching.id

    batch_server.finish()
    raw = await answer(call(either_client.with_options(wait=True).with_raw_response))
    assert raw.status_code == 200
    assert raw.parse().has_completed is True


def test_a_call_works_through_the_streaming_response_as_well(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    def call(client: OpenAIBatching) -> Any:
        return client.with_streaming_response.embeddings.create(model="m", input="Hello")

    with call(client) as pending:
        assert (pending.status_code, pending.parse().has_completed) == (202, False)
    batch_server.finish()
    with call(client.with_options(wait=True)) as done:
        assert (done.status_code, len(done.parse().data[0].embedding)) == (200, dimensions("m"))


async def test_a_response_can_be_retrieved_by_either_of_its_ids(
    either_client: Client, batch_server: BatchServer
) -> None:
    asked = await answer(either_client.responses.create(model="gpt-4o", input="Hi"))
    pending = await answer(either_client.responses.retrieve(asked.id))
    assert isinstance(pending, Response)
    assert pending.has_completed is False
    assert pending.output_text == ""

    batch_server.finish()
    done = await answer(either_client.responses.retrieve(asked.id))
    assert isinstance(done, Response)
    assert done.has_completed is True
    assert done.output_text == "You said: Hi"
    assert done.id != asked.id
    assert await answer(either_client.responses.retrieve(done.id)) == done


async def test_a_messages_call_is_retrieved_as_the_chat_completion_it_is(
    either_client: Client, batch_server: BatchServer
) -> None:
    asked = await answer(
        either_client.responses.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    )
    for resource in (either_client.responses, either_client.chat.completions):
        pending = await answer(resource.retrieve(asked.id))
        assert isinstance(pending, ChatCompletion)
        assert pending.has_completed is False
    batch_server.finish()
    for resource in (either_client.responses, either_client.chat.completions):
        done = await answer(resource.retrieve(asked.id))
        assert isinstance(done, ChatCompletion)
        assert done.choices[0].message.content == "You said: Hi"
        assert await answer(resource.retrieve(done.id)) == done


async def test_a_cancelled_request_comes_back_as_the_request_it_is(
    either_client: Client, patient_server: BatchServer
) -> None:
    asking = either_client.with_options(batch_server_url=patient_server.url)
    asked = await answer(asking.responses.create(model="gpt-4o", input="Hi"))
    cancelled = await answer(asking.responses.cancel(asked.id))
    assert isinstance(cancelled, BatchRequest)
    assert cancelled.id == asked.id
    assert cancelled.status == "cancelled"
    assert cancelled.has_completed is True
    assert cancelled.error is not None
    assert cancelled.error["code"] == "request_cancelled"


async def test_embeddings_are_decoded_exactly_as_the_official_client_does(
    either_client: Client, batch_server: BatchServer
) -> None:
    batch_server.finish()
    waiting = either_client.with_options(wait=True)
    decoded = await answer(waiting.embeddings.create(model="m", input="Hello"))
    assert all(isinstance(number, float) for number in decoded.data[0].embedding)

    official_client = (openai.OpenAI if isinstance(waiting, openai.OpenAI) else openai.AsyncOpenAI)(
        base_url=batch_server.url + "/v1", api_key=batch_server.key
    )
    expected = await answer(official_client.embeddings.create(model="m", input="Hello"))
    assert decoded.data[0].embedding == expected.data[0].embedding == vector("Hello", 1536)
    await answer(official_client.close())


def test_each_key_sees_its_own_requests_only(
    client: OpenAIBatching, batch_server: BatchServer, keys: list[str]
) -> None:
    asked = client.responses.create(model="m", input="Hi")
    other = next(key for key in keys if key != batch_server.key)
    with pytest.raises(openai.NotFoundError):
        client.with_options(batch_server_api_key=other).responses.retrieve(asked.id)
