"""What OpenAI's side sends in a broken reply is not repeated in our errors, which are logged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from openaibatching.server.errors import UpstreamUnknown
from openaibatching.server.providers.openai.client import Upstream
from support.world import settings_for

ANSWER = "canary in an answer"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def upstream_that_says(reply: bytes, folder: Path) -> AsyncIterator[Upstream]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = Upstream(settings_for(f"http://127.0.0.1:{port}/v1", folder))
    try:
        yield upstream
    finally:
        await upstream.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "reply",
    [
        HEAD % b"text/plain" + CHUNKED + ANSWER.encode() + b"\r\n",
        HEAD % b"text/plain" + CHUNKED + b"5\r\n" + ANSWER.encode() + b"\r\n",
        HEAD % b"text/plain" + ANSWER.encode() + b"\r\n\r\n",
        HEAD % b"text/plain" + b"Content-Length: 999\r\n\r\n" + ANSWER.encode(),
        HEAD % b"text/html" + b"\r\n" + ANSWER.encode(),
        ANSWER.encode() + b"\r\n\r\n",
    ],
)
async def test_a_download_that_breaks_is_not_quoted(reply: bytes, tmp_path: Path) -> None:
    async with upstream_that_says(reply, tmp_path) as upstream:
        with pytest.raises(UpstreamUnknown) as caught:
            async for _ in upstream.download("file-1"):
                pass
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b'"%s"' % ANSWER.encode(),
        b'{"id":"b","status":"%s","errors":"%s"}' % (ANSWER.encode(), ANSWER.encode()),
        b'{"%s":1}' % ANSWER.encode(),
        b"%s" % ANSWER.encode(),
        b'["%s"]' % ANSWER.encode(),
    ],
)
async def test_a_reply_that_is_no_batch_is_not_quoted(body: bytes, tmp_path: Path) -> None:
    reply = HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with upstream_that_says(reply, tmp_path) as upstream:
        with pytest.raises(UpstreamUnknown) as caught:
            await upstream.retrieve("batch_1")
    assert "canary" not in caught.value.message
