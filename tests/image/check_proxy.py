"""The proxy of compose.yaml, with its own Caddyfile, before two containers on one database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from clients.real_server import LAG_S, Clock
from image.building import Image
from image.container import DEADLINE_S, Container, new_volume, running
from openaibatching.simulator import Simulator
from support.proxy import proxy
from support.steps import chat
from support.world import KEY

HELD_S = 10.0


@dataclass(frozen=True)
class Proxied:
    """Two containers behind a proxy."""

    http: httpx2.Client
    containers: list[Container]

    def call(self, text: str, wait: int = 0) -> Any:
        reply = self.http.post(
            "/v1/chat/completions", json=chat(text), headers={"Prefer": f"wait={wait}"}
        )
        assert reply.status_code in (200, 202), reply.text
        return reply.json()


@pytest.fixture
def clock() -> Clock:
    """OpenAI's: nothing finishes before it runs."""
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> Simulator:
    return Simulator(lag=LAG_S, clock=clock)


@pytest.fixture
def proxied(image: Image, tmp_path: Path, upstream: str, postgres_url: str) -> Iterator[Proxied]:
    given = {
        "OPENAI_API_KEY": "sk-simulated", "OPENAI_BASE_URL": upstream, "POSTGRES_URL": postgres_url,
        "BATCH_SERVER_API_KEY": KEY, "BATCH_LINGER_S": "0.1", "BATCH_POLL_S": "0.1",
    }  # fmt: skip
    with ExitStack() as stack:
        containers = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            volume = new_volume(image, tmp_path / name)
            containers.append(stack.enter_context(running(image, volume, given)))
        for container in containers:
            container.wait_ready()
        before = stack.enter_context(proxy(tmp_path, [container.url for container in containers]))
        headers = {"Authorization": f"Bearer {KEY}"}
        http = httpx2.Client(
            base_url=before.url, headers=headers, verify=before.trust, timeout=DEADLINE_S
        )
        yield Proxied(stack.enter_context(http), containers)


def test_a_held_reply_comes_through_and_any_server_has_the_answer(
    proxied: Proxied, simulator: Simulator, clock: Clock
) -> None:
    threading.Timer(HELD_S, clock.run).start()
    assert proxied.call("hello", wait=100)["has_completed"]
    for container in proxied.containers:
        with httpx2.Client(base_url=container.url, headers=proxied.http.headers) as direct:
            assert Proxied(direct, []).call("hello")["has_completed"]
    assert simulator.ledger.lines == 1


def test_a_line_comes_through_while_others_are_open(proxied: Proxied, clock: Clock) -> None:
    clock.run()
    assert proxied.call("early", wait=100)["has_completed"]
    clock.stop()
    lines = [
        {"custom_id": text, "method": "POST", "url": "/v1/chat/completions", "body": chat(text)}
        for text in ("late", "early")
    ]
    headers = {"Content-Type": "application/jsonl", "Prefer": "wait=100, order=finished"}
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with proxied.http.stream("POST", "/v1/requests", content=content, headers=headers) as reply:
        came = reply.iter_lines()
        assert '"custom_id":"early"' in next(came)
        clock.run()  # only now the other one can finish
        assert '"custom_id":"late"' in next(came)


def test_when_one_server_is_stopped_the_other_gets_every_call(proxied: Proxied) -> None:
    assert proxied.containers[0].stop() == 0
    for number in range(10):
        assert proxied.call(f"call {number}")["has_completed"] is False
