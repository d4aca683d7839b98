"""A body is never a request: what a proxy takes for one call is one call here, or it is refused."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest

from support.door import Door
from support.postgres import ONE_KIND
from support.wire import wire_to
from support.world import KEY

pytestmark = ONE_KIND

AUTH, JSON = f"Authorization: Bearer {KEY}", "Content-Type: application/json"
OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    "websocket": ("Connection: keep-alive, upgrade", "Upgrade: websocket"),
    "tls": ("connection: UPGRADE", "upgrade: TLS/1.2, HTTP/2.0"),
    "no connection header": ("Upgrade: h2c",),
    "nothing to change to": ("Connection: Upgrade",),
}
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def head(first: str, *lines: str, host: str = "Host: x") -> bytes:
    given = (host, *lines) if host else lines
    return "".join(f"{line}\r\n" for line in (first, *given, "")).encode("latin-1")


def body(text: str) -> bytes:
    return b'{"model":"m","input":"%s"}' % text.encode()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_the_body_of_a_call_that_offers_an_upgrade_is_no_call(
    quiet: Door, offer: str, chunked: bool
) -> None:
    inner = head("POST /v1/flush HTTP/1.1", AUTH)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(inner)}"
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner) if chunked else inner
    async with wire_to(quiet, head("POST /nowhere HTTP/1.1", *OFFERS[offer], framing)) as wire:
        assert (await wire.reply()).status == 404  # the body was not waited for
        await wire.send(sent, HEALTH)
        last = await wire.reply()
    assert (last.status, last.content) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("pieces", [1, 7, 10_000], ids=["one packet", "packets", "bytes"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_a_call_that_offers_an_upgrade_is_answered_as_any_other(
    quiet: Door, offer: str, pieces: int
) -> None:
    content = body(f"{offer} {pieces}")
    given = (AUTH, JSON, *OFFERS[offer])
    length = f"Content-Length: {len(content)}"
    data = head("POST /v1/responses HTTP/1.1", *given, length) + content
    chunks = b"3\r\n%s\r\n%x\r\n%s\r\n0\r\nX: y\r\n\r\n" % (
        content[:3], len(content) - 3, content[3:],
    )  # fmt: skip
    data += head("POST /v1/responses HTTP/1.1", *given, "Transfer-Encoding: chunked") + chunks
    data += head("GET /health HTTP/1.1", *OFFERS[offer]) + HEALTH
    step = -(-len(data) // pieces)
    parts = (data[at : at + step] for at in range(0, len(data), step))
    async with wire_to(quiet, *parts) as wire:
        replies = [await wire.reply() for _ in range(4)]
    assert [reply.status for reply in replies] == [202, 202, 200, 200]
    assert replies[0].json()["id"] == replies[1].json()["id"]


def curled(url: str) -> str:
    """What curl prints, and the status."""
    done = subprocess.run(
        ["curl", "-sS", "--http2", "-H", AUTH, "-H", JSON, "-d", body("curl").decode(),
         "-w", " %{http_code}", url],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


async def test_curl_offers_http2_and_is_answered(quiet: Door) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    said = await asyncio.to_thread(curled, f"{quiet.service.url}/v1/responses")
    assert said.endswith(" 202")


ONE = "Host: x"
DOUBTFUL = {
    "no host": head("GET /health HTTP/1.1", host=""),
    "two hosts": head("GET /health HTTP/1.1", "Host: y"),
    "twice the same host": head("GET /health HTTP/1.1", ONE),
    "hosts in one": head("GET /health HTTP/1.1", host="Host: x, y"),
    "a path in the host": head("GET /health HTTP/1.1", host="Host: x/y"),
    "two hosts in HTTP/1.0": head("GET /health HTTP/1.0", "Host: y"),
    "two lengths": head("POST /v1/flush HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
    "twice the same length": head("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1"),
    "lengths in one": head("POST /v1/flush HTTP/1.1", "Content-Length: 1, 1"),
    "a signed length": head("POST /v1/flush HTTP/1.1", "Content-Length: +1"),
    "a length of nothing": head("POST /v1/flush HTTP/1.1", "Content-Length: "),
    "length and chunks": head(
        "POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"
    ),
    "chunks and length": head(
        "POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 1"
    ),
    "length and an upgrade and chunks": head(
        "POST / HTTP/1.1", "Content-Length: 1", *OFFERS["h2c"], "Transfer-Encoding: chunked"
    ),
    "chunks of HTTP/1.0": head("POST / HTTP/1.0", "Transfer-Encoding: chunked"),
    "chunks twice": head("POST / HTTP/1.1", "Transfer-Encoding: chunked, chunked"),
    "chunks that are compressed": head("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
    "chunks that are not the end": head("POST / HTTP/1.1", "Transfer-Encoding: chunked, gzip"),
    "no chunks": head("POST / HTTP/1.1", "Transfer-Encoding: identity"),
    "nearly chunks": head("POST / HTTP/1.1", "Transfer-Encoding: \x0bchunked"),
    "a folded line": head("GET /health HTTP/1.1", "X: y", " Content-Length: 1"),
    "a space before a colon": head("POST / HTTP/1.1", "Content-Length : 1"),
    "line feeds alone": b"GET /health HTTP/1.1\nHost: x\n\n",
    "the rest of a line is another": head("GET /health HTTP/1.1", "X: y\rContent-Length: 1"),
    "HTTP/2": head("GET /health HTTP/2.0"),
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": head("CONNECT x:80 HTTP/1.1", "Content-Length: 1"),
    "a tunnel to a path": head("CONNECT /v1/flush HTTP/1.1"),
}  # fmt: skip


@pytest.mark.parametrize("what", DOUBTFUL)
async def test_what_two_servers_may_read_differently_is_refused_and_closed(
    quiet: Door, what: str
) -> None:
    async with wire_to(quiet, DOUBTFUL[what] + HEALTH) as wire:
        reply = await wire.reply(to_the_end=True)
    assert (reply.status, reply.json()["error"]["code"]) == (400, "invalid_http")
    assert reply.closed


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize(
    "garbage",
    [b"nonsense\r\n\r\n", DOUBTFUL["no host"], DOUBTFUL["length and chunks"], b"\0" * 70_000],
    ids=["nonsense", "no host", "length and chunks", "zeros"],
)  # fmt: skip
async def test_garbage_behind_calls_closes_the_connection_after_their_replies(
    quiet: Door, garbage: bytes, calls: int
) -> None:
    content = body("garbage")
    given = (AUTH, JSON, f"Content-Length: {len(content)}", "Prefer: wait=0.2")
    whole = head("POST /v1/responses HTTP/1.1", *given) + content
    async with wire_to(quiet, whole * calls + garbage) as wire:
        replies = [await wire.reply() for _ in range(calls)]
        assert await wire.rest() == b""
    assert {reply.status for reply in replies} == {202}
    assert replies[-1].headers["connection"] == "close"


async def test_a_body_that_turns_to_garbage_is_no_call_and_those_before_it_are(quiet: Door) -> None:
    content = body("whole")
    given = (AUTH, JSON, "Prefer: wait=0.2")
    length = f"Content-Length: {len(content)}"
    whole = head("POST /v1/responses HTTP/1.1", *given, length) + content
    broken = head("POST /v1/flush HTTP/1.1", AUTH, "Transfer-Encoding: chunked") + b"2\r\n{}}\r\n"
    async with wire_to(quiet, whole * 2 + broken) as wire:
        replies = [await wire.reply() for _ in range(2)]
        assert await wire.rest() == b""
    assert [reply.status for reply in replies] == [202, 202]


async def test_who_needs_no_host_is_answered(quiet: Door) -> None:
    for call in (
        b"GET /health HTTP/1.0\r\n\r\n",  # health checks of HAProxy
        head("GET /health HTTP/1.1", host="Host:"),  # RFC 9112, 3.2: nothing to name
        head("GET /health HTTP/1.1", host="Host: [::1]:9487"),
        head("GET http://x/health HTTP/1.1"),
    ):
        async with wire_to(quiet, call) as wire:
            assert (await wire.reply()).status == 200
