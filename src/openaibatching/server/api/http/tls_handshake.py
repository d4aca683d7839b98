"""TLS connections from the moment that they are accepted, and not only from their hello."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol

HELLO_S = 5.0
"""From the connection to the end of the TLS handshake."""


class Guest(Protocol):
    """A connection that has a place."""

    def evict(self) -> None:
        """Close it at once."""

    def look(self, now: float, idle_since: float | None) -> None:
        """Close it if it has been too slow; `idle_since`: it waits for a call."""


class Guests(Protocol):
    """Who counts them."""

    def opened(self, guest: Guest) -> None:
        """One more; this one or another may be evicted for it."""

    def closed(self, guest: Guest) -> None:
        """One less."""


class Hello(asyncio.Protocol):
    """A connection whose handshake is under way. asyncio's own way of listening with TLS shows a
    connection to nobody before its handshake is over, and gives it a minute for that."""

    def __init__(
        self, guests: Guests, context: ssl.SSLContext, make: Callable[[], asyncio.Protocol]
    ) -> None:
        """`make` gives the protocol of what comes after the handshake."""
        self._guests, self._context, self._make = guests, context, make
        self._shaking: asyncio.Task[None] | None = None
        self._gone = False
        self._early = b""  # uvloop may read before the handshake has begun

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._guests.opened(self)
        if not self._gone:
            self._shaking = asyncio.get_running_loop().create_task(self._shake())

    def data_received(self, data: bytes) -> None:
        self._early += data

    def evict(self) -> None:
        self._gone = True
        if self._shaking is not None:
            self._shaking.cancel()
        self._transport.abort()

    def look(self, now: float, idle_since: float | None) -> None:
        pass  # HELLO_S is kept by the handshake itself

    async def _shake(self) -> None:
        early = _Early()
        # It comes between the beginning of the handshake and the reading of more.
        asyncio.get_running_loop().call_soon(self._hand_over)
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                self._transport, early, self._context,
                server_side=True, ssl_handshake_timeout=HELLO_S, ssl_shutdown_timeout=HELLO_S,
            )  # fmt: skip
        except OSError:  # it is closed: no hello in time, or none that we understand
            self._transport.abort()
            return
        finally:
            self._guests.closed(self)
        if encrypted is None or encrypted.is_closing() or early.ended:
            self._transport.abort()
            return
        protocol = self._make()
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        if early.data:
            protocol.data_received(bytes(early.data))

    def _hand_over(self) -> None:
        """Give what has been read already to the handshake."""
        handshake: Any = self._transport.get_protocol()  # a BufferedProtocol
        left = memoryview(b"" if handshake is self else self._early)
        while left:
            buffer = handshake.get_buffer(len(left))
            size = min(len(buffer), len(left))
            buffer[:size] = left[:size]
            handshake.buffer_updated(size)
            left = left[size:]


class _Early(asyncio.Protocol):
    """What comes with the last packet of the handshake, before anybody can be told."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True
