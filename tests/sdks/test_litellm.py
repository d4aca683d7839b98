"""LiteLLM's SDK, with nothing but the base URL and the key changed."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import openai
import pytest

from sdks.server import ANSWER, PENDING, WAIT, Printed, Server

# Else its import asks the network for a newer list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm = pytest.importorskip("litellm", reason="LiteLLM is not installed")

# What it warns of in its own code is its own matter.
pytestmark = pytest.mark.filterwarnings("ignore")

HEADING = "## LiteLLM"


@pytest.fixture
def options(server: Server) -> dict[str, Any]:
    return {"model": "openai/gpt-4o", "api_base": server.base_url, "api_key": server.key}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_examples_print_that_it_is_in_progress_and_later_the_answer(
    server: Server, printed: Printed
) -> None:
    assert printed(HEADING) == PENDING
    server.finish()
    assert printed(HEADING) == ANSWER
    assert printed(HEADING, 1) == "You said: Hello again!\n"


def test_a_completion_that_has_not_finished_is_an_empty_one(
    server: Server, options: dict[str, Any]
) -> None:
    pending = litellm.completion(messages=said("Hello"), **options)
    again = asyncio.run(litellm.acompletion(messages=said("Hello"), **options))
    for each in (pending, again):
        assert (each.choices, each.has_completed) == ([], False)
        assert each.batching["id"] == each.id
    server.finish()
    answer = litellm.completion(messages=said("Hello"), **options)
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.has_completed is True
    assert answer.batching["id"] == pending.id
    assert len(server.requests()) == 1


def test_so_are_responses_and_embeddings(server: Server, options: dict[str, Any]) -> None:
    embedding = options | {"model": "openai/text-embedding-3-small"}
    pending = litellm.responses(input="Hello", **options)
    assert (pending.output, pending.has_completed) == ([], False)
    assert pending.status in ("queued", "in_progress")
    empty = litellm.embedding(input=["Hello"], **embedding)
    assert (empty.data, hasattr(empty, "has_completed")) == ([], False)
    server.finish()
    answer = litellm.responses(input="Hello", **options)
    assert (answer.output[0].content[0].text, answer.has_completed) == ("You said: Hello", True)
    assert answer.batching["id"] == pending.batching["id"]
    assert len(litellm.embedding(input=["Hello"], **embedding).data) == 1
    assert len(server.requests()) == 2


def test_a_call_that_waits_returns_the_answer_at_once(
    server: Server, options: dict[str, Any]
) -> None:
    server.finish()
    answer = litellm.completion(messages=said("Hello"), extra_headers=WAIT, **options)
    assert answer.choices[0].message.content == "You said: Hello"


@pytest.mark.parametrize(
    ("status", "name", "official"),
    [
        (400, "BadRequestError", openai.BadRequestError),
        (500, "InternalServerError", openai.InternalServerError),
    ],
)
def test_a_failed_call_raises_the_usual_error(
    status: int,
    name: str,
    official: type[openai.APIStatusError],
    server: Server,
    options: dict[str, Any],
) -> None:
    server.finish()
    failing = said(f"[[simulate:status={status}]]")
    with pytest.raises(getattr(litellm, name)) as raised:
        litellm.completion(messages=failing, extra_headers=WAIT, **options)
    assert isinstance(raised.value, official)
    assert raised.value.status_code == status
