"""What really goes over the wire: counted between a client and its HTTP library."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Any

from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

from support.deadline import DEADLINE_S
from support.world import TLS

LIBRARY: Any = import_module(DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
"""httpx with openai 2, httpx2 with openai 3."""


class _Counting:
    def __init__(self) -> None:
        self._clients: list[Any] = []
        self.paths: list[str] = []
        self.open = self.most_at_once = 0
        self._lock = threading.Lock()

    def begin(self, request: Any) -> None:
        with self._lock:
            self.paths.append(request.url.path)
            self.open += 1
            self.most_at_once = max(self.most_at_once, self.open)

    def end(self) -> None:
        with self._lock:
            self.open -= 1


class AsyncWire(_Counting):
    """The paths of the requests sent, and how many were open at once."""

    def http_client(self, **options: Any) -> Any:
        """An HTTP client on this wire; closed with it."""
        wire, transport = self, LIBRARY.AsyncHTTPTransport(verify=TLS)

        class Counted(LIBRARY.AsyncBaseTransport):  # type: ignore[misc]
            async def handle_async_request(self, request: Any) -> Any:
                wire.begin(request)
                try:
                    response = await transport.handle_async_request(request)
                except BaseException:
                    wire.end()
                    raise
                response.stream = _AsyncEnding(response.stream, wire.end)
                return response

            async def aclose(self) -> None:
                await transport.aclose()

        client = DefaultAsyncHttpxClient(transport=Counted(), **options)
        self._clients.append(client)
        return client

    async def __aenter__(self) -> AsyncWire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for client in self._clients:
            await client.aclose()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds, which nothing announces."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - nothing to wait on
                await asyncio.sleep(0.01)


class _AsyncEnding(LIBRARY.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, stream: Any, end: Callable[[], None]) -> None:
        self._stream, self._end = stream, end

    async def __aiter__(self) -> Any:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()


class Wire(_Counting):
    """The same for threads."""

    def http_client(self, **options: Any) -> Any:
        """An HTTP client on this wire; closed with it."""
        wire, transport = self, LIBRARY.HTTPTransport(verify=TLS)

        class Counted(LIBRARY.BaseTransport):  # type: ignore[misc]
            def handle_request(self, request: Any) -> Any:
                wire.begin(request)
                try:
                    response = transport.handle_request(request)
                except BaseException:
                    wire.end()
                    raise
                response.stream = _Ending(response.stream, wire.end)
                return response

            def close(self) -> None:
                transport.close()

        client = DefaultHttpxClient(transport=Counted(), **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close every client on it."""
        for client in self._clients:
            client.close()


class _Ending(LIBRARY.SyncByteStream):  # type: ignore[misc]
    def __init__(self, stream: Any, end: Callable[[], None]) -> None:
        self._stream, self._end = stream, end

    def __iter__(self) -> Any:
        yield from self._stream

    def close(self) -> None:
        self._end()
        self._stream.close()
