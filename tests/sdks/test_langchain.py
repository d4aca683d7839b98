"""LangChain's `ChatOpenAI`, with nothing but the base URL and the key changed."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from sdks.server import ANSWER, PENDING, WAIT, Printed, Server

langchain_openai = pytest.importorskip("langchain_openai", reason="LangChain is not installed")

HEADING = "## LangChain"


class Greeting(BaseModel):
    text: str


def chat(server: Server, **options: Any) -> Any:
    return langchain_openai.ChatOpenAI(
        model="gpt-4o", base_url=server.base_url, api_key=server.key, **options
    )


def test_the_examples_print_that_it_is_in_progress_and_later_the_answer(
    server: Server, printed: Printed
) -> None:
    assert printed(HEADING) == PENDING
    server.finish()
    assert printed(HEADING) == ANSWER
    assert printed(HEADING, 1) == "['You said: Hello, world!', 'You said: Hello again!']\n"


def test_so_do_those_with_the_responses_api(server: Server, printed: Printed) -> None:
    # The one before it waits, and the server has to let go for that.
    server.finish()
    assert printed(HEADING, 2) == PENDING
    server.finish()
    assert printed(HEADING, 2) == ANSWER


def test_a_chat_that_has_not_finished_is_an_index_error(server: Server) -> None:
    model = chat(server)
    with pytest.raises(IndexError):
        model.invoke("Hello")
    with pytest.raises(IndexError):
        asyncio.run(model.ainvoke("Hello"))
    server.finish()
    assert model.invoke("Hello").text == "You said: Hello"
    assert len(server.requests()) == 1


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_so_is_one_with_structured_output(method: str, server: Server) -> None:
    model = chat(server).with_structured_output(Greeting, method=method)
    with pytest.raises(IndexError):
        model.invoke("Hello")
    server.finish()
    assert model.invoke("Hello") == Greeting(text="You said: Hello")
    assert len(server.requests()) == 1


def test_a_response_that_has_not_finished_is_an_empty_message(server: Server) -> None:
    model = chat(server, use_responses_api=True)
    pending = model.invoke("Hello")
    assert (pending.text, pending.content) == ("", [])
    assert pending.response_metadata["status"] in ("queued", "in_progress")
    with pytest.raises(ValueError, match="does not have a 'parsed' field"):
        model.with_structured_output(Greeting).invoke("Hello")

    server.finish()
    answer = model.invoke("Hello")
    assert (answer.text, answer.response_metadata["status"]) == ("You said: Hello", "completed")
    assert model.with_structured_output(Greeting).invoke("Hello").text == "You said: Hello"
    assert len(server.requests()) == 2


def test_a_call_of_many_that_has_not_finished_leaves_the_others_alone(server: Server) -> None:
    model = chat(server)
    with pytest.raises(IndexError):
        model.invoke("Hello")
    server.finish()
    answered, pending = model.batch(["Hello", "Hello again"], return_exceptions=True)
    assert answered.text == "You said: Hello"
    assert isinstance(pending, IndexError)


def test_a_call_that_waits_returns_the_answer_at_once(server: Server) -> None:
    server.finish()
    assert chat(server, default_headers=WAIT).invoke("Hello").text == "You said: Hello"
    assert chat(server).invoke("Hello again", extra_headers=WAIT).text == "You said: Hello again"
    waiting = chat(server, default_headers=WAIT, use_responses_api=True)
    assert waiting.invoke("Hello").text == "You said: Hello"


@pytest.mark.parametrize(
    ("status", "error"), [(400, openai.BadRequestError), (500, openai.InternalServerError)]
)
def test_a_failed_call_raises_the_usual_error(
    status: int, error: type[openai.APIStatusError], server: Server
) -> None:
    server.finish()
    with pytest.raises(error) as raised:
        chat(server, default_headers=WAIT).invoke(f"[[simulate:status={status}]]")
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_a_stream_is_refused(server: Server) -> None:
    async def first() -> Any:
        return await anext(chat(server).astream("Hello"))

    with pytest.raises(openai.BadRequestError, match="Streaming is not supported"):
        next(chat(server).stream("Hello"))
    with pytest.raises(openai.BadRequestError, match="Streaming is not supported"):
        asyncio.run(first())
    assert server.requests() == []
