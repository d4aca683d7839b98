"""A data set classified by one `asyncio.gather`: our client and server beside `autobatcher serve`
with the official client.

Both have the same window, the same poll interval and the same simulator, whose own time (the
processor time of its process) is taken away from either.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai

from benchmarks import peers, stack
from benchmarks.figure import Row, Sizes, check
from openaibatching import AsyncOpenAIBatching
from support.data import classification
from support.process import free_port

WINDOW_S, POLL_S = 2.0, 1.0
CALLS_MAX = 13_083
PATIENCE_S = 900.0


def measure(sizes: Sizes) -> list[Row]:
    bodies = _bodies(100 if sizes.short else CALLS_MAX)
    window_s, poll_s = (0.3, 0.2) if sizes.short else (WINDOW_S, POLL_S)
    with stack.simulator() as openai_:
        settings = {"BATCH_LINGER_S": window_s, "BATCH_POLL_S": poll_s}
        with stack.server(openai_.base_url, **settings) as server:
            ours = _overhead(openai_, _with_us(server.url, bodies))
        name, against = f"{len(bodies):,} banking77 calls, `wait=True`: overhead", "autobatcher"
        version = peers.version_of("autobatcher")
        if version is None:
            return [Row(name, f"{against} (not installed)", ours, None, detail=f"{ours:.1f} s")]
        with _autobatcher(openai_.base_url, window_s, poll_s) as url:
            theirs = _overhead(openai_, _with_autobatcher(url, bodies))
    detail = f"{ours:.1f} s; autobatcher {theirs:.1f} s; window {window_s:g} s, poll {poll_s:g} s"
    against = "`autobatcher serve --mode batch`, official client"
    return [Row(f"{name}, times less", against, theirs / ours, 5, detail=detail)]


def _bodies(most: int) -> list[dict[str, Any]]:
    """As many different ones as there are to be, made up if there is no data set."""
    bodies = classification()
    for n in range(len(bodies), most):
        copy = bodies[n % len(bodies)]
        question = {"role": "user", "content": f"{copy['messages'][1]['content']} ({n})"}
        bodies.append({**copy, "messages": [copy["messages"][0], question]})
    return bodies[:most]


def _overhead(openai_: stack.Simulated, calls: Coroutine[Any, Any, None]) -> float:
    before, started = openai_.cpu_s(), time.perf_counter()
    asyncio.run(calls)
    return time.perf_counter() - started - (openai_.cpu_s() - before)


async def _with_us(url: str, bodies: Sequence[dict[str, Any]]) -> None:
    async with AsyncOpenAIBatching(
        batch_server_url=url, batch_server_api_key=stack.KEY, wait=True
    ) as client:
        await _all(client, bodies)


async def _with_autobatcher(url: str, bodies: Sequence[dict[str, Any]]) -> None:
    # Connecting may take longer than the official five seconds while a thousand others do.
    timeout = openai.Timeout(PATIENCE_S)
    async with openai.AsyncOpenAI(base_url=url, api_key="any", timeout=timeout) as client:
        await _all(client, bodies)


async def _all(client: openai.AsyncOpenAI, bodies: Sequence[dict[str, Any]]) -> None:
    answers = await asyncio.gather(*(client.chat.completions.create(**body) for body in bodies))
    for body, answer in zip(bodies, answers, strict=True):
        said = answer.choices[0].message.content or ""
        asked = body["messages"][1]["content"]
        check(asked in said, f"{asked!r} was answered {said!r}")


@contextmanager
def _autobatcher(base_url: str, window_s: float, poll_s: float) -> Iterator[str]:
    """Its server; its base URL."""
    port = free_port()
    command = [
        str(peers.BIN / "autobatcher"), "serve", "--base-url", base_url,
        "--api-key", "sk-simulated", "--port", str(port), "--mode", "batch",
        "--batch-window", str(window_s), "--poll-interval", str(poll_s),
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with stack.spawned(command, **quiet):
        stack.wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"
