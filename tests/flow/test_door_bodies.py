"""Bodies that are large, slow, cut off or odd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from openaibatching.server.api.http import reading
from support.door import BAD_KEY, Door, open_door, refused
from support.postgres import Cluster
from support.wire import Wire
from support.world import KEY, sdk

MOST = 1_000_000
LARGE = 20_000_000
"""More than the buffers of a connection hold: a server that does not read breaks the client."""

AUTH = ("Authorization", f"Bearer {BAD_KEY}")
JSON = ("Content-Type", "application/json")


@pytest.fixture(scope="module")
async def small(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server that takes bodies of a million bytes, and lines of half as many."""
    folder = tmp_path_factory.mktemp("small")
    async with open_door(
        cluster,
        folder,
        batch_linger_s=3600,
        batch_poll_s=30,
        request_bytes_max=MOST,
        batch_bytes_max=MOST // 2,
    ) as door:
        yield door


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 100_000):
        yield b"x" * 100_000


async def test_the_sdk_hears_that_a_body_is_too_large(small: Door) -> None:
    async with sdk(small.service, BAD_KEY) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.responses.create(model="m", input="x" * LARGE)
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert small.rows("bad") == 0


async def test_a_too_large_body_without_content_length_is_refused(small: Door) -> None:
    reply = await small.bad.post("/v1/responses", content=chunks(LARGE), headers=[JSON])
    refused(reply, 413, "request_too_large")
    assert small.rows("bad") == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [([AUTH, JSON], 413), ([JSON], 401), ([AUTH, ("Content-Type", "text/plain")], 415)],
)
@pytest.mark.parametrize("sized", [True, False])
async def test_who_sends_all_before_reading_and_then_closes_hears_the_refusal(
    small: Door, headers: list[tuple[str, str]], status: int, sized: bool
) -> None:
    wire = await Wire.to(small.service)
    length = ("Content-Length", str(LARGE)) if sized else ("Transfer-Encoding", "chunked")
    await wire.head("POST", "/v1/responses", [*headers, length, ("Connection", "close")])
    part = b"x" * 100_000
    for _ in range(LARGE // len(part)):
        await wire.send(part if sized else b"%x\r\n%s\r\n" % (len(part), part))
    if not sized:
        await wire.send(b"0\r\n\r\n")
    reply = await wire.reply(to_the_end=True)
    assert reply.status == status
    assert reply.closed
    await wire.close()
    assert small.rows("bad") == 0


async def test_the_next_request_on_the_same_connection_is_answered(small: Door) -> None:
    wire = await Wire.to(small.service)
    await wire.head("POST", "/v1/responses", [AUTH, JSON, ("Content-Length", str(LARGE))])
    await wire.send(*([b"x" * 100_000] * (LARGE // 100_000)))
    assert (await wire.reply()).status == 413
    await wire.head("GET", "/health", [])
    assert (await wire.reply()).status == 200
    await wire.close()


async def test_a_body_of_exactly_the_most_is_read(small: Door) -> None:
    for size, status in ((MOST, 400), (MOST + 1, 413)):
        reply = await small.bad.post("/v1/responses", content=b" " * size, headers=[JSON])
        assert reply.status_code == status


async def test_a_body_larger_than_a_batch_can_hold_is_refused(small: Door) -> None:
    body = {"model": "m", "input": "x" * (MOST // 2)}
    reply = await small.bad.post("/v1/responses", json=body)
    assert "BATCH_BYTES_MAX" in refused(reply, 413, "request_too_large")
    assert small.rows("bad") == 0


async def test_a_body_that_stands_still_is_given_up(
    small: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_IDLE_S", 0.1)
    wire = await Wire.to(small.service)
    await wire.head("POST", "/v1/responses", [AUTH, JSON, ("Content-Length", "100")])
    await wire.send(b'{"model":')
    reply = await wire.reply(to_the_end=True)
    assert (reply.status, reply.json()["error"]["code"]) == (408, "request_timeout")
    assert reply.closed
    await wire.close()
    assert small.rows("bad") == 0


async def test_a_body_that_comes_slowly_but_steadily_is_taken(small: Door) -> None:
    body = b'{"model":"m","input":"slowly"}'
    wire = await Wire.to(small.service)
    await wire.head(
        "POST",
        "/v1/responses",
        [("Authorization", f"Bearer {KEY}"), JSON, ("Content-Length", str(len(body)))],
    )
    for byte in body:
        await wire.send(bytes([byte]))
        await asyncio.sleep(0.001)  # so that each byte is a message of its own
    assert (await wire.reply()).status == 202
    await wire.close()


@pytest.mark.parametrize("polite", [True, False])
async def test_a_body_that_is_cut_off_leaves_nothing(
    small: Door, polite: bool, caplog: pytest.LogCaptureFixture
) -> None:
    whole = b'{"model":"m","input":"cut"}'
    wire = await Wire.to(small.service)
    await wire.head("POST", "/v1/responses", [AUTH, JSON, ("Content-Length", str(len(whole) + 1))])
    await wire.send(whole)
    if polite:
        await wire.close()
    else:
        wire.abort()
    assert (await small.nobody.get("/health")).status_code == 200
    assert small.rows("bad") == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    "first",
    [
        b"GET /v1/requests/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_a_400_and_the_end_of_the_connection(
    small: Door, first: bytes
) -> None:
    wire = await Wire.to(small.service)
    await wire.send(first)
    reply = await wire.reply(to_the_end=True)
    assert reply.status == 400
    assert reply.closed
    assert b"Traceback" not in reply.content
    await wire.close()


async def test_headers_that_are_not_ascii_harm_nothing(small: Door) -> None:
    wire = await Wire.to(small.service)
    junk = "".join(map(chr, range(0x80, 0x100)))
    names = ("Prefer", "Idempotency-Key", "User-Agent", "X-Junk", "Cookie", "Accept")
    body = b'{"model":"m","input":"junk"}'
    await wire.head(
        "POST",
        "/v1/responses",
        [
            ("Authorization", f"Bearer {KEY}"),
            JSON,
            ("Content-Length", str(len(body))),
            *((name, junk) for name in names),
        ],
    )
    await wire.send(body)
    assert (await wire.reply()).status == 202
    await wire.close()


ODD = [
    "123456789012345678901234567890",
    "-0",
    "1.0",
    "1e400",
    "0.1000000000000000055511151231257827",
    '"\\ud800 \\udfff\\u0000"',
    '"\\u2028\\u0085"',
]


async def test_odd_values_are_accepted_and_stored_as_written(small: Door) -> None:
    for value in ODD:
        body = f'{{"input":{value},"model":"odd"}}'.encode()
        reply = await small.client.post("/v1/responses", content=body, headers=[JSON])
        assert reply.status_code == 202
        assert small.stored(reply.headers["x-batching-id"]) == body
