"""A reply whose body is known is one piece; any other goes as the web server sends it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse
from uvicorn.protocols.http.flow_control import FlowControl

from openaibatching.server.api.http.whole_reply import JOINED_BYTES_MAX, TAKEN, Exchange, send_reply


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def resume_reading(self) -> None:
        pass


async def sent(reply: Response, method: str = "POST", *, keep_alive: bool = True) -> Wire:
    wire, log = Wire(), logging.getLogger("test")
    scope: Any = {"type": "http", "method": method, TAKEN: True}
    exchange = Exchange(
        scope=scope,
        transport=wire,
        flow=FlowControl(wire),
        logger=log,
        access_logger=log,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    await send_reply(reply, scope, exchange.receive, exchange.send)  # type: ignore[arg-type]
    assert exchange.response_complete
    return wire


class Other(Response):
    """A kind of reply that is left to the web server."""


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_a_whole_reply_is_written_once_and_reads_as_the_web_servers_own(
    keep_alive: bool,
) -> None:
    given: Any = (b"{}", 202, {"X-Own": "1"}, "application/json")

    ours = await sent(Response(*given), keep_alive=keep_alive)
    theirs = await sent(Other(*given), keep_alive=keep_alive)

    assert (len(ours.written), len(theirs.written)) == (1, 2)
    assert ours.written[0] == b"".join(theirs.written)
    assert ours.closed is theirs.closed is not keep_alive


async def test_the_json_of_a_refusal_is_a_whole_reply_too() -> None:
    (written,) = (await sent(JSONResponse({"a": 1}, 404))).written

    assert written.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert written.endswith(b'\r\n\r\n{"a":1}')


async def test_a_long_body_is_not_copied_to_be_joined() -> None:
    body = b"x" * (JOINED_BYTES_MAX + 1)

    head, written = (await sent(Response(body))).written

    assert head.endswith(b"\r\n\r\n")
    assert written == body


async def test_the_reply_to_head_has_no_body_and_a_stream_is_sent_in_parts() -> None:
    head = b"".join((await sent(Response(b"12345"), "HEAD")).written)
    stream = b"".join((await sent(StreamingResponse(iter([b"1", b"2"])))).written)

    assert b"content-length: 5\r\n" in head
    assert head.endswith(b"\r\n\r\n")
    assert stream.endswith(b"\r\n\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
async def test_a_header_of_two_lines_is_never_sent(value: str) -> None:
    with pytest.raises(RuntimeError):
        await sent(Response(b"{}", headers={"X-Told": value}))
