"""instructor's `from_openai`, with nothing but the base URL and the key of its client changed."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel

from sdks.server import ANSWER, PENDING, WAIT, Printed, Server

instructor = pytest.importorskip("instructor", reason="instructor is not installed")

HEADING = "## instructor"


class Greeting(BaseModel):
    text: str


def client(server: Server, mode: str = "TOOLS", **options: Any) -> Any:
    return instructor.from_openai(
        openai.OpenAI(base_url=server.base_url, api_key=server.key, **options),
        mode=instructor.Mode[mode],
    )


def greet(client: Any, text: str = "Hello", **options: Any) -> str:
    """What a call answers, which is a `Greeting`."""
    messages = [{"role": "user", "content": text}]
    answer = client.chat.completions.create(
        model="gpt-4o", messages=messages, response_model=Greeting, **options
    )
    assert isinstance(answer, Greeting)
    return answer.text


def pending(client: Any, **options: Any) -> Any:
    """The error of a call that has not finished."""
    with pytest.raises(instructor.core.InstructorRetryException) as raised:
        greet(client, **options)
    assert raised.value.last_completion.has_completed is False
    return raised.value


def test_the_examples_print_that_it_is_in_progress_and_later_the_answer(
    server: Server, printed: Printed
) -> None:
    assert printed(HEADING) == PENDING
    server.finish()
    assert printed(HEADING) == ANSWER
    assert len(server.requests()) == 1
    assert printed(HEADING, 1) == ANSWER


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_a_call_that_has_not_finished_is_an_error_after_one_try(mode: str, server: Server) -> None:
    asking = client(server, mode)
    assert pending(asking).n_attempts == 1
    server.finish()
    assert greet(asking) == "You said: Hello"
    assert len(server.requests()) == 1


def test_in_a_mode_of_the_responses_api_it_is_corrected_three_times_unless_told_not_to(
    server: Server,
) -> None:
    asking = client(server, "RESPONSES_TOOLS")
    assert pending(asking, max_retries=0).n_attempts == 1
    assert len(server.requests()) == 1
    assert pending(asking).n_attempts == 4
    assert len(server.requests()) == 4
    server.finish()
    assert greet(asking, max_retries=0) == "You said: Hello"


def test_an_answer_that_does_not_fit_is_corrected_by_one_further_request_at_a_time(
    server: Server,
) -> None:
    # In this mode the simulator does not know which JSON is wanted.
    asking = client(server, "JSON")
    for requests in (1, 2, 3):
        pending(asking)
        assert len(server.requests()) == requests
        server.finish()
    assert [request["attempts"] for request in server.requests()] == [1, 1, 1]


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "RESPONSES_TOOLS"])
def test_a_call_that_waits_returns_the_answer_at_once(mode: str, server: Server) -> None:
    server.finish()
    waiting = client(server, mode, default_headers=WAIT)
    assert greet(waiting) == "You said: Hello"
    again = greet(client(server, mode), "Hello again", extra_headers=WAIT)
    assert again == "You said: Hello again"
    assert len(server.requests()) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(400, openai.BadRequestError), (500, openai.InternalServerError)]
)
def test_a_failed_call_is_an_error_after_one_try_caused_by_the_usual_one(
    status: int, error: type[openai.APIStatusError], server: Server
) -> None:
    server.finish()
    with pytest.raises(instructor.core.InstructorRetryException) as raised:
        greet(client(server, default_headers=WAIT), f"[[simulate:status={status}]]")
    assert isinstance(raised.value.__cause__, error)
    assert (raised.value.n_attempts, raised.value.last_completion) == (1, None)
    assert len(server.requests()) == 1
