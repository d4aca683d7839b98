"""Behind a real Caddy with our Caddyfile: callers share its connections, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest

from clients.real_server import LAG_S, Clock
from openaibatching.simulator import Simulator
from support.deadline import DEADLINE_S
from support.door import Door, open_door
from support.postgres import ONE_KIND, Cluster
from support.proxy import CADDYFILE, Proxy, program, proxy
from support.steps import chat
from support.wire import Wire
from support.world import KEY, until

pytestmark = [
    ONE_KIND,
    pytest.mark.skipif(program() is None, reason="there is no `caddy` here: no proxy to test"),
]

STRIPPING = "\trequest_header -Upgrade\n"
# A stranger's body that begins a call and leaves its last header open. Where it is read as a call,
# the first line of the next caller's call ends that header, and that caller's key belongs to it.
INNER = b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nX-Swallow: "
ROUNDS = 5


@dataclass(frozen=True)
class Behind:
    """A server behind the proxy. `client` goes through it, with a key."""

    door: Door
    proxy: Proxy
    client: httpx2.AsyncClient
    clock: Clock

    def connections(self) -> int:
        """How many the proxy has to the server."""
        port = int(self.door.service.url.rpartition(":")[2])
        open_ = psutil.Process(self.proxy.pid).net_connections("tcp")
        return sum(
            c.status == "ESTABLISHED" and bool(c.raddr) and c.raddr.port == port for c in open_
        )

    def flushed(self) -> int:
        """How often somebody has flushed, whoever it was."""
        with psycopg.connect(self.door.database_url) as conn:
            row = conn.execute(
                "select count(*) from openaibatching.audit where action = 'flushed'"
            ).fetchone()
        assert row is not None
        return int(row[0])


@contextlib.asynccontextmanager
async def behind(cluster: Cluster, folder: Path, caddyfile: str) -> AsyncIterator[Behind]:
    clock = Clock()
    simulator = Simulator(lag=LAG_S, clock=clock)
    async with open_door(cluster, folder, simulator=simulator) as door:
        manager = proxy(folder, [door.service.url], caddyfile)
        before = await asyncio.to_thread(manager.__enter__)
        try:
            async with httpx2.AsyncClient(
                base_url=before.url, headers={"Authorization": f"Bearer {KEY}"},
                verify=before.trust, timeout=DEADLINE_S,
            ) as client:  # fmt: skip
                yield Behind(door, before, client, clock)
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)


@pytest.fixture
async def proxied(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Behind]:
    async with behind(cluster, tmp_path, CADDYFILE) as found:
        yield found


@pytest.fixture(params=[CADDYFILE, CADDYFILE.replace(STRIPPING, "")], ids=["ours", "without line"])
async def attacked(
    cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Behind]:
    """Behind our Caddyfile, and behind one that passes the offer of another protocol on: each of
    the two, proxy and server, is enough."""
    async with behind(cluster, tmp_path, request.param) as found:
        yield found


async def attack(proxy: Proxy, offer: str, pause_s: float) -> None:
    """A stranger's call, whose body comes in a packet of its own."""
    host, port = proxy.url.removeprefix("https://").split(":")
    wire = Wire(*await asyncio.open_connection(host, int(port), ssl=proxy.trust))
    length = f"Content-Length: {len(INNER)}\r\n"
    head = f"POST /webhooks/openai HTTP/1.1\r\nHost: {host}\r\n{offer}{length}\r\n"
    try:
        await wire.send(head.encode(), INNER[:1])
        await asyncio.sleep(pause_s)  # the pace of the attack
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await wire.send(INNER[1:])
            await wire.reply()
    finally:
        wire.abort()


@pytest.mark.parametrize(
    "offer",
    ["Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n",
     "Upgrade: TLS/1.2\r\n"],
    ids=["h2c", "websocket", "tls"],
)  # fmt: skip
async def test_a_strangers_body_never_becomes_the_call_of_the_next_caller(
    attacked: Behind, offer: str
) -> None:
    for number in range(ROUNDS):
        await attack(attacked.proxy, offer, pause_s=0.3 * (number % 2))
        reply = await attacked.client.get("/v1/requests")
        assert reply.status_code == 200, reply.text
        assert reply.json()["object"] == "list"
    assert attacked.connections() <= 2, "they are not used again, so this test shows nothing"
    assert attacked.flushed() == 0
    assert (await attacked.client.post("/v1/flush")).status_code == 202
    assert attacked.flushed() == 1


async def test_a_held_reply_and_a_body_without_a_length_come_through(proxied: Behind) -> None:
    content = json.dumps(chat("hello")).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]
            await asyncio.sleep(0)

    call = asyncio.create_task(
        proxied.client.post(
            "/v1/chat/completions", content=pieces(),
            headers={"Content-Type": "application/json", "Prefer": "wait=200"},
        )
    )  # fmt: skip

    async def queued() -> bool:
        return bool((await proxied.client.get("/v1/requests")).json()["data"])

    await until(queued)
    assert not call.done()
    proxied.clock.run()
    reply = await call
    assert "chunked" in reply.request.headers["transfer-encoding"]
    assert reply.json()["has_completed"] is True


async def test_a_line_comes_through_while_others_are_open(proxied: Behind) -> None:
    proxied.clock.run()
    early = await proxied.client.post(
        "/v1/chat/completions", json=chat("early"), headers={"Prefer": "wait=200"}
    )
    assert early.json()["has_completed"] is True
    proxied.clock.stop()
    lines = [
        {"custom_id": text, "method": "POST", "url": "/v1/chat/completions", "body": chat(text)}
        for text in ("late", "early")
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    headers = {"Content-Type": "application/jsonl", "Prefer": "wait=200, order=finished"}
    call = proxied.client.stream("POST", "/v1/requests", content=content, headers=headers)
    async with call as reply:
        came = reply.aiter_lines()
        assert '"custom_id":"early"' in await anext(came)
        proxied.clock.run()  # only now the other one can finish
        assert '"custom_id":"late"' in await anext(came)
