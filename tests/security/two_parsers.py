"""The same bytes, read by the server's connections and by h11."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import h11
import uvicorn
from uvicorn.server import ServerState

from openaibatching.server.api.http.limits import HEAD_BYTES_MAX, Connections

Call = tuple[bytes, bytes, bytes]
"""Method, target, body."""


@dataclass
class Heard:
    """The calls that came whole, and whether the connection ended."""

    calls: list[Call] = field(default_factory=list)
    closed: bool = False


# Where our parser takes more than h11 and the framing stays as it is: empty lines before a call
# (RFC 9112, 2.2, wants them skipped), and several spaces behind the method.
_LENIENT = re.compile(rb"[\r\n]*([A-Z]+) +")


def h11_hears(data: bytes) -> Heard:
    """What h11 makes of it."""
    heard = Heard()
    while data and not heard.closed:
        parser = h11.Connection(h11.SERVER, HEAD_BYTES_MAX)
        parser.receive_data(_LENIENT.sub(rb"\1 ", data, count=1) if _LENIENT.match(data) else data)
        try:
            call = _next_call(parser)
        except h11.RemoteProtocolError:
            heard.closed = True
            break
        if call is None:
            break
        heard.calls.append(call)
        heard.closed = parser.our_state is h11.MUST_CLOSE
        data, _ = parser.trailing_data
    return heard


def _next_call(parser: h11.Connection) -> Call | None:
    """A call that has come whole, which is answered; None if there is none yet."""
    method = target = body = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Request):
            method, target = event.method, event.target
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return None
    parser.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    parser.send(h11.EndOfMessage())
    return method, target, body


class _Transport(asyncio.Transport):
    """A connection without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def we_hear(parts: Sequence[bytes]) -> Heard:
    """What the server's application is called with when this comes, a packet each."""
    heard = Heard()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        query = scope["query_string"] and b"?" + scope["query_string"]
        heard.calls.append((scope["method"].encode(), scope["raw_path"] + query, body))
        empty = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": empty})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    state, transport = ServerState(), _Transport()
    connection = Connections().factory(config=config, server_state=state, app_state={})
    connection.connection_made(transport)
    left = deque(parts)
    while not transport.closed:
        if left and not transport.paused:
            connection.data_received(left.popleft())
        elif not await _settled(state):
            break
    heard.closed = transport.closed
    connection.connection_lost(None)
    await _settled(state)
    return heard


async def _settled(state: ServerState) -> bool:
    """Let every call do what it can now; whether there was anything to do."""
    before = state.total_requests
    for _ in range(5):
        await asyncio.sleep(0)
    return state.total_requests > before
