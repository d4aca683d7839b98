"""A loop in the background: what it does when the world fails is written here, for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from openaibatching.server.errors import DatabaseUnavailable
from openaibatching.server.telemetry import logs

log = logs.get()

RETRY_S = 0.5
"""How long a loop waits before it asks a database again that was away."""


async def run_forever(
    name: str,
    do: Callable[[], Awaitable[None]],
    *,
    woken: asyncio.Event | None = None,
    every_s: float | Callable[[], float] | None = None,
    rest_s: float = 0.0,
) -> None:
    """Do it again and again, until cancelled.

    It is done when it is `woken`, or `every_s` seconds after the last time (None: only when woken),
    and never sooner than `rest_s` seconds after it. While the database is away, which the worker
    logs, it is tried again every RETRY_S. Any other error is logged as `step_failed` of this
    `name`, and ends nothing.
    """
    event = asyncio.Event() if woken is None else woken
    while True:
        try:
            async with asyncio.timeout(every_s() if callable(every_s) else every_s):
                await event.wait()
        except TimeoutError:
            pass
        event.clear()
        try:
            await do()
        except DatabaseUnavailable:
            await asyncio.sleep(RETRY_S)
            event.set()
        except Exception:
            log.exception("step_failed", step=name)
        await asyncio.sleep(rest_s)
