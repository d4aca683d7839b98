"""Real work through real processes: every question is answered, with its own answer, once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import pytest

from openaibatching import AsyncOpenAIBatching
from openaibatching.simulator import body_sha256
from support.data import classification, evaluation
from support.process import ServerProcess, environment, free_port, server_process
from support.world import KEY, until

AT_ONCE = 50


@pytest.fixture
def simulator_url() -> Iterator[str]:
    """The simulator in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "openaibatching", "simulate", "--port", str(port), "--lag", "1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _seen_upstream(simulator_url: str, what: str) -> Any:
    with urlopen(simulator_url.replace("/v1", f"/_simulator/{what}")) as reply:
        return json.load(reply)


def _all_finished(server: ServerProcess) -> bool:
    request = UrlRequest(f"{server.url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    with urlopen(request) as reply:
        text = reply.read().decode()
    unfinished = ('requests{status="queued"} 0.0', 'requests{status="in_progress"} 0.0',
                  'batches{status="collected"} 0.0')  # fmt: skip
    return all(f"openaibatching_{line}\n" in text for line in unfinished)


def _total_of_receipts(server: ServerProcess) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with urlopen(UrlRequest(f"{server.url}/v1/costs", headers=headers)) as reply:
        total: dict[str, Any] = json.load(reply)["total"]
    return total


async def _ask_all(
    ask: Callable[[dict[str, Any]], Awaitable[Any]], bodies: list[dict[str, Any]]
) -> list[Any]:
    """One round: every call once, together."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(body: dict[str, Any]) -> Any:
        async with gate:
            return await ask(body)

    return await asyncio.gather(*(one(body) for body in bodies))


async def test_every_real_question_gets_its_own_answer_and_is_paid_once(
    simulator_url: str, tmp_path: Path
) -> None:
    chats, responses = classification(), evaluation()
    env = environment(simulator_url, tmp_path, BATCH_LINGER_S=2, BATCH_POLL_S=0.5)
    with server_process(env) as server:
        async with AsyncOpenAIBatching(
            batch_server_url=server.url, batch_server_api_key=KEY
        ) as client:

            async def chat(body: dict[str, Any]) -> Any:
                return await client.chat.completions.create(**body)

            async def respond(body: dict[str, Any]) -> Any:
                return await client.responses.create(**body)

            async def ask_all() -> tuple[list[Any], list[Any]]:
                return await _ask_all(chat, chats), await _ask_all(respond, responses)

            first = await ask_all()
            assert not first[1][-1].has_completed
            await until(lambda: asyncio.to_thread(_all_finished, server))
            batches = len(_seen_upstream(simulator_url, "state")["batches"])
            second = await ask_all()
        receipts = _total_of_receipts(server)
        assert server.terminate() == 0
    for body, result in zip(chats, second[0], strict=True):
        assert result.choices[0].message.content == f"You said: {body['messages'][1]['content']}"
    for body, result in zip(responses, second[1], strict=True):
        assert result.output_text == f"You said: {body['input']}"
    state = _seen_upstream(simulator_url, "state")
    ledger = _seen_upstream(simulator_url, "ledger")
    assert len(state["batches"]) == batches, "the second run created a batch"
    assert state["files"] == []
    usage = ledger["usage"]
    assert [receipts[name] for name in ("answers", "input_tokens", "output_tokens")] == [
        len(chats) + len(responses), usage["input_tokens"], usage["output_tokens"]
    ]  # fmt: skip
    assert receipts["paid"] == receipts["saved"] > 0
    assert ledger["counts"] == {body_sha256(body): 1 for body in [*chats, *responses]}
