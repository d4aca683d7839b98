"""Callers that are too slow, or say too much: each loses its connection, and nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from openaibatching.server.api.http import limits, reading
from support.door import Door, open_door
from support.postgres import ONE_KIND, Cluster
from support.wire import Wire, wire_to
from support.world import KEY

pytestmark = ONE_KIND

SHORT_S = 0.3
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
AUTH, JSON = ("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json")
CHUNKED = ("Transfer-Encoding", "chunked")
BODY = b'{"model":"m","input":"slow"}'
LENGTH = ("Content-Length", str(len(BODY)))


@pytest.fixture(scope="module")
async def brisk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server without patience."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "HEAD_S", SHORT_S)
        patched.setattr(limits, "LOOK_S", 0.05)
        folder = tmp_path_factory.mktemp("brisk")
        async with open_door(cluster, folder, batch_linger_s=3600, wait_s_max=3) as door:
            yield door


async def trickled(wire: Wire, byte: bytes) -> bytes:
    """Send the byte again and again, until the server has closed; what it said."""
    said = asyncio.create_task(wire.rest())
    with contextlib.suppress(ConnectionError):
        while not said.done():
            await wire.send(byte)
            await asyncio.sleep(0.01)  # the pace of the attack
    return await said


def timed_out(said: bytes) -> None:
    assert said.startswith(b"HTTP/1.1 408 ")
    assert said.endswith(b"}}")
    assert b'"code":"request_timeout"' in said


async def test_a_connection_that_says_nothing_is_closed(brisk: Door) -> None:
    async with wire_to(brisk) as wire:
        timed_out(await wire.rest())


async def test_headers_that_come_byte_by_byte_are_given_up(brisk: Door) -> None:
    async with wire_to(brisk, b"GET /health HTTP/1.1\r\nX-Slow: ") as wire:
        timed_out(await trickled(wire, b"x"))


@pytest.mark.parametrize(
    ("first", "byte"),
    [
        (HEALTH, b"\r\n"),
        (HEALTH, b"G"),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", b"x"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", b"x"),
    ],
)
async def test_after_a_reply_nothing_that_is_no_call_keeps_it_open(
    brisk: Door, first: bytes, byte: bytes
) -> None:
    async with wire_to(brisk, first) as wire:
        assert (await wire.reply()).status in (200, 404)
        await trickled(wire, byte)


async def test_between_two_calls_and_during_a_long_one_there_is_time(brisk: Door) -> None:
    async with wire_to(brisk, HEALTH) as idle, wire_to(brisk) as waiting:
        assert (await idle.reply()).status == 200
        await waiting.head("POST", "/v1/responses", [AUTH, JSON, LENGTH, ("Prefer", "wait=3")])
        await waiting.send(BODY)
        async with wire_to(brisk) as silent:  # opened last, closed first
            timed_out(await silent.rest())
        await idle.send(HEALTH)
        assert (await idle.reply()).status == 200
        assert (await waiting.reply()).status == 202


async def test_headers_without_an_end_are_refused(brisk: Door) -> None:
    line = b"X-Long: " + b"x" * 1000 + b"\r\n"
    for endless in (line * 200, b"X-Long: " + b"x" * 200_000):
        async with wire_to(brisk, b"GET /health HTTP/1.1\r\n", endless) as wire:
            reply = await wire.reply(to_the_end=True)
            assert (reply.status, reply.json()["error"]["code"]) == (431, "headers_too_large")
            assert reply.closed


async def test_trailers_without_an_end_are_refused_and_no_trailer_is_a_header(brisk: Door) -> None:
    async with wire_to(brisk) as wire:
        await wire.head("POST", "/v1/responses", [AUTH, JSON, CHUNKED])
        await wire.send(b"1\r\n{\r\n0\r\n", b"X-Trailer: x\r\n" * 100_000)
        assert (await wire.reply(to_the_end=True)).status == 431
    async with wire_to(brisk) as wire:
        await wire.head("POST", "/v1/responses", [JSON, CHUNKED])
        await wire.send(b"0\r\nAuthorization: Bearer %s\r\n\r\n" % KEY.encode())
        assert (await wire.reply()).status == 401


async def test_what_is_no_http_is_told_so_in_openais_shape(brisk: Door) -> None:
    for nonsense in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00"):
        async with wire_to(brisk, nonsense) as wire:
            reply = await wire.reply(to_the_end=True)
            assert (reply.status, reply.json()["error"]["code"]) == (400, "invalid_http")


@pytest.mark.parametrize("path", ["/webhooks/openai", "/sign-in"])
async def test_what_anybody_may_send_has_a_time_in_all(
    brisk: Door, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(reading, "STRANGER_BODY_S", SHORT_S)
    async with wire_to(brisk) as wire:
        from_here = ("Sec-Fetch-Site", "same-origin")  # else the page reads no form at all
        await wire.head("POST", path, [JSON, from_here, ("Content-Length", "16000")])
        assert (await trickled(wire, b"x")).startswith(b"HTTP/1.1 408 ")


async def test_the_body_of_a_call_without_a_key_has_a_time_in_all(
    brisk: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STRANGER_BODY_S", SHORT_S)
    async with wire_to(brisk) as wire:
        await wire.head("POST", "/v1/responses", [JSON, ("Content-Length", "16000")])
        said = await trickled(wire, b"x")
        assert said.startswith(b"HTTP/1.1 401 ")


async def test_a_caller_that_closes_its_half_leaves_the_request_and_no_connection(
    brisk: Door,
) -> None:
    async with wire_to(brisk) as wire:
        await wire.head("POST", "/v1/responses", [AUTH, JSON, LENGTH, ("Prefer", "wait=3")])
        await wire.send(BODY)
        wire.close_half()
        assert await wire.rest() == b""
    reply = await brisk.client.post("/v1/responses", content=BODY, headers=[JSON])
    assert reply.status_code == 202
