"""The batch server over HTTP, with whichever HTTP library the official package brings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any

from openai import DefaultAsyncHttpxClient, Timeout

from openaibatching.run.words import Away, CannotRun

_HTTP: Any = import_module(DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""httpx with openai 2, httpx2 with openai 3."""

CONNECT_S, STANDSTILL_S = 10.0, 120.0
"""A connection over which nothing moves for so long, holds aside, is given up."""
TOO_BUSY = (408, 425, 429)


@dataclass(frozen=True)
class Reply:
    """A reply of the bulk door: its headers, and its lines, a portion at a time."""

    headers: Mapping[str, str]
    portions: AsyncIterator[list[bytes]]


class BatchServer:
    """A batch server, asked many lines at a time."""

    def __init__(self, api_url: str, key: str) -> None:
        """`api_url` ends in /v1."""
        self._url = f"{api_url}/requests"
        self._shown = api_url.removesuffix("/v1")
        self._http = DefaultAsyncHttpxClient(headers={"Authorization": f"Bearer {key}"})

    async def __aenter__(self) -> BatchServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._http.aclose()

    async def check(self) -> None:
        """Raises CannotRun if no batch server is there, or it does not know the key.

        One that is there and cannot answer at the moment will be waited for.
        """
        try:
            reply = await self._http.get(self._url, params={"limit": "1"}, timeout=_timeout(0))
            self._refuse(reply, await reply.aread())
        except Away:
            return
        except (_HTTP.HTTPError, _HTTP.InvalidURL, UnicodeError) as error:
            raise CannotRun(f"{self._shown} cannot be reached: {_said(error)}") from None
        if b'"object":"list"' not in reply.content.replace(b" ", b""):
            raise CannotRun(f"{self._shown} is no batch server")

    @asynccontextmanager
    async def ask(self, lines: AsyncIterator[bytes], hold_s: int) -> AsyncIterator[Reply]:
        """Send these input lines. They are answered in their order, as things are; with a hold,
        each as soon as it has finished, and the others after so many seconds.

        Raises Away, also while the reply is read, or CannotRun.
        """
        headers = {"Content-Type": "application/jsonl", "Accept": "application/jsonl"}
        if hold_s:
            headers["Prefer"] = f"wait={hold_s}, order=finished"
        try:
            async with self._http.stream(
                "POST", self._url, content=lines, headers=headers, timeout=_timeout(hold_s)
            ) as reply:
                if reply.status_code != 200:
                    self._refuse(reply, await reply.aread())
                yield Reply(reply.headers, _portions(reply.aiter_bytes()))
        except (_HTTP.HTTPError, _HTTP.StreamError) as error:
            raise Away(f"{self._shown} is away ({_said(error)})") from error

    def _refuse(self, reply: Any, content: bytes) -> None:
        """Raise what a reply that is not 200 means."""
        status = reply.status_code
        if status == 200:
            return
        told = f"{status} {reply.reason_phrase}"
        if status >= 500 or status in TOO_BUSY:
            raise Away(f"{self._shown} answers {told}")
        if status in (401, 403):
            raise CannotRun(
                f"{self._shown} answers {told}: BATCH_SERVER_API_KEY is not a key of this server"
            )
        if status == 413:
            raise CannotRun(
                f"{self._shown} answers {told}: let larger bodies pass the proxy before it"
            )
        raise CannotRun(f"{self._shown} is no batch server: it answers {told}")


def _timeout(hold_s: int) -> Timeout:
    return Timeout(STANDSTILL_S, connect=CONNECT_S, read=STANDSTILL_S + hold_s)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _portions(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The whole lines in a stream of chunks; what is left at the end was cut off."""
    parts: list[bytes] = []
    async for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*parts, lines[0]))
            parts.clear()
            yield lines
        parts.append(rest)
