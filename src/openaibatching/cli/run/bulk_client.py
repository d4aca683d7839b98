"""The batch server over HTTP, with whichever HTTP library the official package brings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

from openai import DefaultAsyncHttpxClient, Timeout

from openaibatching.cli.remote.address import CONNECT_S, HTTP, refuse, said
from openaibatching.cli.remote.exit_codes import Away, CannotRun

STANDSTILL_S = 120.0
"""A connection over which nothing moves for so long, holds aside, is given up."""


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
        self._http = DefaultAsyncHttpxClient(
            headers={"Authorization": f"Bearer {key}"},
            # Lines that are sent as they are read cannot be sent a second time, nor should another
            # host be sent them.
            follow_redirects=False,
        )

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
            if reply.status_code != 200:
                refuse(self._shown, reply.status_code, reply.reason_phrase, reply.headers)
        except Away:
            return
        except (HTTP.HTTPError, HTTP.InvalidURL, UnicodeError) as error:
            raise CannotRun(f"{self._shown} cannot be reached: {said(error)}") from None
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
                    refuse(self._shown, reply.status_code, reply.reason_phrase, reply.headers)
                yield Reply(reply.headers, _portions(reply.aiter_bytes()))
        except (HTTP.HTTPError, HTTP.StreamError) as error:
            raise Away(f"{self._shown} is away ({said(error)})") from error


def _timeout(hold_s: int) -> Timeout:
    return Timeout(STANDSTILL_S, connect=CONNECT_S, read=STANDSTILL_S + hold_s)


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
