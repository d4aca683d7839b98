"""The connection itself: replies that stream, and connections that are cut."""

import os
import socket
import struct
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openaibatching.simulator.engine.content import Content

_CHUNK = 256 * 1024
_KEY = "simulator.wire"


class Wire:
    """One HTTP exchange, with the means to end it rudely."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_cut = False

    async def send(self, message: Message) -> None:
        """Send on, unless the connection was cut."""
        if not self.is_cut:
            await self._send(message)

    async def cut(self, *, reset: bool = False) -> None:
        """Close the connection after what was written; with `reset`, by a TCP reset."""
        self.is_cut = True
        # ASGI has no word for this: uvicorn's `send` is a method of the exchange that has it.
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None:
            raise ConnectionResetError("the simulator cut the connection")
        if reset:
            _linger_zero(transport.get_extra_info("socket"))
            transport.abort()
        else:
            transport.close()
        # Until the server has noticed, it would complain about a missing reply.
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _linger_zero(connection: Any) -> None:
    # Through a duplicate, because uvloop's transport only lends a look-alike of its socket.
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Wired:
    """ASGI middleware that gives every exchange its Wire."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wire = Wire(receive, send)
        await self._app({**scope, _KEY: wire}, receive, wire.send)


def wire_of(scope: Scope) -> Wire:
    """The Wire of this exchange."""
    wire: Wire = scope[_KEY]
    return wire


class ContentReply(Response):
    """The first `length` bytes of a file, the one at `broken` made undecodable.

    With `cut`, the connection ends before the last chunk; without, the reply is whole, and only
    the file's size tells that something is missing.
    """

    media_type = "application/octet-stream"

    def __init__(
        self,
        content: Content,
        filename: str,
        length: int,
        broken: int | None,
        *,
        cut: bool = False,
    ) -> None:
        super().__init__()
        # Chunked, as recorded: the length of a download is known from its end alone.
        del self.headers["content-length"]
        self.headers["content-disposition"] = f'attachment; filename="{filename}"'
        self._content = content
        self._length = length
        self._broken = broken
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        place = 0
        with self._content.open() as reader:
            # Reads come from the page cache: too short to leave the event loop for.
            while chunk := reader.read(min(_CHUNK, self._length - place)):
                if self._broken is not None and place <= self._broken < place + len(chunk):
                    at = self._broken - place
                    chunk = chunk[:at] + b"\xff" + chunk[at + 1 :]
                place += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self._cut:
            await wire_of(scope).cut()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
