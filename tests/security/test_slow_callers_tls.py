"""With TLS the same limits hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from openaibatching.server.api.http import limits
from support.certificates import certified, trusting
from support.door import open_door
from support.postgres import ONE_KIND, Cluster
from support.wire import Wire
from support.world import http

DOCUMENT = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


@ONE_KIND
async def test_slow_and_endless_callers_are_refused_behind_tls_too(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_S", "UNREAD_S", "LINGER_S"):
        monkeypatch.setattr(limits, name, 0.3)
    monkeypatch.setattr(limits, "LOOK_S", 0.05)
    async with open_door(cluster, tmp_path, **certified(tmp_path)) as door:
        port = int(door.service.url.rpartition(":")[2])

        async def wire(first: bytes) -> Wire:
            one = Wire(*await asyncio.open_connection("127.0.0.1", port, ssl=trusting(tmp_path)))
            await one.send(first)
            return one

        unread = await wire(DOCUMENT * 1000)
        unread.stop_reading()
        for first, status in (
            (b"", b"408"),
            (b"GET /health HTTP/1.1\r\nX-Slow: x", b"408"),
            (b"nonsense\r\n\r\n", b"400"),
            (b"X: y\r\n" * 100_000, b"400"),
            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, b"431"),
        ):
            one = await wire(first)
            assert (await one.rest()).startswith(b"HTTP/1.1 " + status)
            one.abort()
        async with http(door.service, verify=trusting(tmp_path)) as client:
            assert (await client.get("/health")).status_code == 200
        unread.abort()
