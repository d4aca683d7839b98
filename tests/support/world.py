"""A server and OpenAI's stand-in, real processes or in this one, for tests of any kind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai

from openaibatching.server.api.http.server import listen
from openaibatching.server.app import Service
from openaibatching.server.config.settings import DEFAULT_TENANT, Settings, load
from support.deadline import DEADLINE_S

KEY = "key-of-the-tests"
# Reading the system's certificates takes longer than most tests, and few need them.
TLS = ssl.create_default_context()


def settings_for(base_url: str, folder: Path, **changes: Any) -> Settings:
    """Settings that do not dawdle."""
    given: dict[str, Any] = {
        "openai_api_key": "sk-simulated",
        "openai_base_url": base_url,
        "batch_server_api_key": KEY,
        "data_dir": folder,
        "port": 0,
        "batch_linger_s": 0.05,
        "batch_poll_s": 0.05,
        "batch_settle_s": 0.3,
    }
    return load({**given, **changes})


@asynccontextmanager
async def running_service(
    url: str, settings: Settings, keys: dict[str, str] | None = None
) -> AsyncIterator[Service]:
    """A server in this process, listening on a free port."""
    service = Service(settings, keys or {DEFAULT_TENANT: KEY}, url, listen(settings))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def sdk(service: Service, key: str = KEY, **options: Any) -> openai.AsyncOpenAI:
    """The stock SDK, with nothing but base_url and api_key changed."""
    options.setdefault("http_client", openai.DefaultAsyncHttpxClient(verify=TLS))
    return openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=key, **options)


def http(service: Service, key: str | None = KEY, **options: Any) -> httpx2.AsyncClient:
    """A plain HTTP client that presents the key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    options.setdefault("verify", TLS)
    return httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=DEADLINE_S, **options)


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What `condition` gives once it is true; asked again and again, at most DEADLINE_S.

    For what another process does and announces nowhere.
    """
    async with asyncio.timeout(DEADLINE_S):
        while not (value := await condition()):  # noqa: ASYNC110 - nothing to wait on
            await asyncio.sleep(0.02)
    return value


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def catch_up(self) -> None:
        """Be no earlier than the real time, which the database gives to what it accepts."""
        self._now = max(self._now, datetime.now(UTC))
