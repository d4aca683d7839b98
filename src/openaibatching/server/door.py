"""What the handlers of the door work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cachetools import TTLCache

from openaibatching.server import errors
from openaibatching.server.accept import OUTAGE_S_MAX, Acceptor
from openaibatching.server.config import Keyring
from openaibatching.server.context import Context
from openaibatching.server.db import Connection
from openaibatching.server.deliver import Deliverer
from openaibatching.server.upstream import WEBHOOK_TOLERANCE_S

T = TypeVar("T")

WEBHOOKS_SEEN_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Door:
    """One server's door."""

    ctx: Context
    keyring: Keyring
    acceptor: Acceptor
    deliverer: Deliverer
    webhooks_seen: TTLCache[str, bool] = field(
        default_factory=lambda: TTLCache(WEBHOOKS_SEEN_MAX, ttl=2 * WEBHOOK_TOLERANCE_S)
    )
    """The ids of webhooks, for as long as a copy of one could still pass for fresh."""

    async def read(
        self, query: Callable[[Connection], Awaitable[T]], outage_s: float = OUTAGE_S_MAX
    ) -> T:
        """What `query` finds. A restart of PostgreSQL passes unseen: reading again is always safe.

        Raises DatabaseUnavailable when it is still away after `outage_s` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + outage_s
        while True:
            try:
                async with self.ctx.database.transaction() as conn:
                    return await query(conn)
            except errors.DatabaseUnavailable:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(0.1)
