"""HTTP byte by byte, for what no well-behaved client sends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from openaibatching.server.app import Service
from support.deadline import DEADLINE_S
from support.door import Door

HEAD_BYTES_MAX = 65_536


@dataclass(frozen=True)
class Reply:
    """What came back. `closed`: the server then closed the connection."""

    status: int
    headers: dict[str, str]
    content: bytes
    closed: bool

    def json(self) -> Any:
        return json.loads(self.content)


class Wire:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, service: Service) -> Wire:
        return await cls.at(service.url)

    @classmethod
    async def at(cls, address: str) -> Wire:
        url = urlsplit(address)
        return cls(*await asyncio.open_connection(url.hostname, url.port))

    async def send(self, *parts: bytes) -> None:
        """Write all of it, as fast as the server takes it."""
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()

    async def head(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{n}: {v}" for n, v in headers)]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def reply(self, *, to_the_end: bool = False) -> Reply:
        """Read one reply; `to_the_end`: and see the connection closed behind it."""
        async with asyncio.timeout(DEADLINE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").strip().split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            content = await self._reader.readexactly(int(headers.get("content-length", 0)))
            closed = to_the_end and await self._reader.read() == b""
        return Reply(int(first.split()[1]), headers, content, closed)

    async def rest(self) -> bytes:
        """Everything until the server closes, however it does."""
        parts: list[bytes] = []
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                while part := await self._reader.read(HEAD_BYTES_MAX):
                    parts.append(part)
        return b"".join(parts)

    def stop_reading(self) -> None:
        """Take nothing of what comes."""
        transport: Any = self._writer.transport
        transport.pause_reading()

    def close_half(self) -> None:
        """Say that nothing more will come; a reply may."""
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def abort(self) -> None:
        """Go away without a word."""
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def wire_to(door: Door, *first: bytes) -> AsyncIterator[Wire]:
    """A connection on which this was sent; gone without a word at the end."""
    wire = await Wire.to(door.service)
    try:
        await wire.send(*first)
        yield wire
    finally:
        wire.abort()
