"""The server under attack, as its attackers reach it: bytes over TLS, and a tally of replies."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REPLY_S = 30.0
PACE_S = 0.02
"""Between two calls of one attack: all of them share one core."""


@dataclass
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def closed(self) -> bool:
        """Whether the server has closed it."""
        return self.reader.at_eof() or self.writer.is_closing()

    async def send(self, *parts: bytes) -> None:
        """Write, as fast as the server takes it. Raises OSError if it has closed."""
        for part in parts:
            self.writer.write(part)
            async with asyncio.timeout(REPLY_S):
                await self.writer.drain()

    async def rest(self, within_s: float = REPLY_S) -> bytes:
        """What comes until the server closes or `within_s` seconds have passed."""
        parts: list[bytes] = []
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(within_s):
                while part := await self.reader.read(65536):
                    parts.append(part)
        return b"".join(parts)


@dataclass
class Target:
    """`key` is the greedy tenant's own."""

    url: str
    key: str
    tls: ssl.SSLContext
    tally: dict[str, Counter[str]] = field(default_factory=dict)
    wrongs: Counter[str] = field(default_factory=Counter)

    def note(self, attack: str, what: str) -> None:
        """Count one outcome of an attack."""
        self.tally.setdefault(attack, Counter())[what] += 1

    def wrong(self, what: str) -> None:
        """What must not happen has happened."""
        self.wrongs[what] += 1

    @asynccontextmanager
    async def connection(self, *, tls: bool = True) -> AsyncIterator[Wire]:
        """Raises OSError or TimeoutError where the server takes none."""
        url = urlsplit(self.url)
        async with asyncio.timeout(REPLY_S):
            context = self.tls if tls else None
            pair = await asyncio.open_connection(url.hostname, url.port, ssl=context)
        wire = Wire(*pair)
        try:
            yield wire
        finally:
            wire.writer.transport.abort()

    def head(self, method: str, path: str, *more: tuple[str, str], key: str = "") -> bytes:
        """The head of a request."""
        auth = (("Authorization", f"Bearer {key}"),) if key else ()
        lines = [f"{n}: {v}" for n, v in (("Host", "attacked"), *auth, *more)]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()

    async def ask(
        self, attack: str, method: str, path: str, body: bytes = b"", *more: tuple[str, str],
        key: str = "",
    ) -> None:  # fmt: skip
        """One request on a connection of its own; its status is noted."""
        kind = () if more else (("Content-Type", "application/json"),)
        length = ("Content-Length", str(len(body)))
        close = ("Connection", "close")
        status = "no reply"
        with contextlib.suppress(OSError, TimeoutError):
            async with self.connection() as wire:
                head = self.head(method, path, *kind, *more, length, close, key=key)
                with contextlib.suppress(OSError, TimeoutError):
                    await wire.send(head, body)
                said = await wire.rest()
                status = said[9:12].decode() if said else status
        self.note(attack, status)
        await asyncio.sleep(PACE_S)
