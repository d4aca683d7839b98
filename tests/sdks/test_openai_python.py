"""openai for Python, the stock client: once with openai 2 and once with openai 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from sdks.server import ANSWER, PENDING, WAIT, Printed, Server

HEADING = "## openai for Python"
MESSAGES: Any = [{"role": "user", "content": "Hello, world!"}]


class Greeting(BaseModel):
    text: str


# name -> the call, and what is empty until it has finished
CALLS: dict[str, tuple[Callable[[OpenAI], Any], str]] = {
    "chat": (lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES), "choices"),
    "chat, parsed": (
        lambda c: c.chat.completions.parse(
            model="gpt-4o", messages=MESSAGES, response_format=Greeting
        ),
        "choices",
    ),
    "responses": (lambda c: c.responses.create(model="gpt-4o", input="Hello"), "output"),
    "responses, parsed": (
        lambda c: c.responses.parse(model="gpt-4o", input="Hello", text_format=Greeting),
        "output",
    ),
    "completions": (
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hello"),
        "choices",
    ),
    "embeddings": (
        lambda c: c.embeddings.create(
            model="text-embedding-3-small", input="Hello", encoding_format="float"
        ),
        "data",
    ),
    "moderations": (
        lambda c: c.moderations.create(model="omni-moderation-latest", input="Hello"),
        "results",
    ),
    "images": (lambda c: c.images.generate(model="gpt-image-1", prompt="A dot"), "data"),
}


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=server.key) as client:
        yield client


def test_the_examples_print_that_it_is_in_progress_and_later_the_answer(
    server: Server, printed: Printed
) -> None:
    assert printed(HEADING) == PENDING
    server.finish()
    assert printed(HEADING) == ANSWER
    assert printed(HEADING, 1) == ANSWER + "You said: Hello again!\n"


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_has_not_finished_returns_an_empty_object(
    name: str, client: OpenAI, server: Server
) -> None:
    call, content = CALLS[name]
    pending = call(client)
    assert getattr(pending, content) == []
    assert pending.has_completed is False

    server.finish()
    answer = call(client)
    assert len(getattr(answer, content)) == 1
    assert answer.has_completed is True
    assert answer.batching["id"] == pending.batching["id"]
    assert len(server.requests()) == 1


def test_a_response_says_how_far_it_is_and_is_read_again_by_its_id(
    client: OpenAI, server: Server
) -> None:
    pending = client.responses.parse(model="gpt-4o", input="Hello", text_format=Greeting)
    assert pending.status in ("queued", "in_progress")
    assert (pending.output_text, pending.output_parsed) == ("", None)
    server.finish()
    answer = client.responses.retrieve(pending.id)
    assert answer.status == "completed"
    assert Greeting.model_validate_json(answer.output_text).text == "You said: Hello"


def test_an_embedding_that_has_not_finished_is_an_error_in_the_default_encoding(
    client: OpenAI, server: Server
) -> None:
    with pytest.raises(ValueError, match="No embedding data received"):
        client.embeddings.create(model="text-embedding-3-small", input="Hello")
    server.finish()
    answer = client.embeddings.create(model="text-embedding-3-small", input="Hello")
    assert len(answer.data) == 1


def test_a_call_that_waits_returns_the_answer_at_once(client: OpenAI, server: Server) -> None:
    server.finish()
    waiting = client.with_options(default_headers=WAIT)
    for call, content in CALLS.values():
        assert len(getattr(call(waiting), content)) == 1
    assert client.responses.create(model="gpt-4o", input="One", extra_headers=WAIT).output_text


def test_the_client_waits_longer_than_the_server_holds(client: OpenAI) -> None:
    assert isinstance(client.timeout, openai.Timeout)
    assert client.timeout.read == 600


@pytest.mark.parametrize(
    ("status", "error"), [(400, openai.BadRequestError), (500, openai.InternalServerError)]
)
def test_a_failed_call_raises_the_usual_error_and_is_not_tried_again(
    status: int, error: type[openai.APIStatusError], server: Server
) -> None:
    replies: list[int] = []
    hooks: Any = {"response": [lambda reply: replies.append(reply.status_code)]}
    server.finish()
    with (
        OpenAI(
            base_url=server.base_url,
            api_key=server.key,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks),
        ) as client,
        pytest.raises(error) as raised,
    ):
        client.responses.create(
            model="gpt-4o", input=f"[[simulate:status={status}]]", extra_headers=WAIT
        )
    assert raised.value.status_code == status
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert replies == [status]


def test_what_a_batch_cannot_do_is_refused(client: OpenAI, server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="Streaming is not supported"):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.create(model="gpt-4o", input="Hello", background=True)
    with pytest.raises(openai.APIStatusError) as raised:
        client.images.edit(model="gpt-image-1", prompt="A dot", image=b"\x89PNG")
    assert raised.value.status_code == 415
    assert server.requests() == []
