"""TLS connections count from when they are accepted, and have a few seconds for their hello."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from openaibatching.server.api.http import limits, tls_handshake
from support.certificates import certified, trusting
from support.deadline import DEADLINE_S
from support.door import Door, open_door
from support.postgres import ONE_KIND, Cluster
from support.wire import Wire
from support.world import http

pytestmark = ONE_KIND
MOST = 12
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True)
class Tls:
    """A server with few places, and who trusts it."""

    door: Door
    trusting: ssl.SSLContext

    async def silent(self) -> Wire:
        """A connection without a hello."""
        return await Wire.to(self.door.service)

    async def answers(self) -> bool:
        async with http(self.door.service, verify=self.trusting) as client:
            return (await client.get("/v1/requests")).status_code == 200


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def tls(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Tls]:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", MOST)
    async with open_door(cluster, tmp_path, **certified(tmp_path)) as door:
        yield Tls(door, trusting(tmp_path))


async def test_connections_without_a_hello_keep_nobody_out(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are closed for want of places, and not because of their time.
    monkeypatch.setattr(tls_handshake, "HELLO_S", 100_000.0)
    silent = []
    for _ in range(MOST * 3):
        silent.append(await tls.silent())
        assert await tls.answers()
    assert await silent[0].rest() == b""
    for wire in silent:
        wire.abort()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_hello_that_does_not_come_or_is_none_closes_the_connection(
    tls: Tls, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(tls_handshake, "HELLO_S", 0.2)
    wire = await tls.silent()
    await wire.send(first)
    await wire.rest()
    wire.abort()
    assert await tls.answers()


async def test_a_call_in_the_packet_of_the_hellos_end_is_answered(tls: Tls) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    port = int(tls.door.service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said, greeted = b"", False
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not said.endswith(b'{"status":"ok"}'):
                with contextlib.suppress(ssl.SSLWantReadError):
                    if not greeted:
                        client.do_handshake()
                        client.write(HEALTH)  # goes out with what ends the handshake
                        greeted = True
                    said += client.read()
                    continue
                if data := outgoing.read():
                    writer.write(data)
                else:
                    incoming.write(await reader.read(65_536))
    finally:
        writer.transport.abort()
