"""The OpenAI Agents SDK, with nothing but the base URL and the key of its client changed."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from sdks.server import Server

agents = pytest.importorskip("agents", reason="the OpenAI Agents SDK is not installed")

KINDS = ["OpenAIResponsesModel", "OpenAIChatCompletionsModel"]


def run(server: Server, prefix: str, kind: str) -> Any:
    """What an agent says at the end."""
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=f"{server.url}{prefix}", api_key=server.key)
    model = getattr(agents, kind)(model="gpt-4o", openai_client=client)
    agent = agents.Agent(name="one", instructions="Be brief.", model=model)
    return asyncio.run(agents.Runner.run(agent, "Hello")).final_output


def test_by_v1_an_unfinished_response_is_an_empty_answer(server: Server) -> None:
    assert run(server, "/v1", KINDS[0]) == ""
    with pytest.raises(agents.ModelBehaviorError):
        run(server, "/v1", KINDS[1])


@pytest.mark.parametrize("kind", KINDS)
def test_by_ask_it_is_an_error_and_later_the_answer(server: Server, kind: str) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        run(server, "/ask/v1", kind)
    assert raised.value.status_code == 425
    assert len(server.requests()) == 1
    server.finish()
    assert run(server, "/ask/v1", kind) == "You said: Hello"
    assert len(server.requests()) == 1
