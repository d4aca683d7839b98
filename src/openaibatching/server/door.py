"""What the handlers of the door work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cachetools import TTLCache

from openaibatching.server.accept import OUTAGE_S_MAX, Acceptor
from openaibatching.server.context import Context
from openaibatching.server.db import Connection
from openaibatching.server.deliver import Deliverer
from openaibatching.server.keyring import Keyring
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
        """What `query` finds, through an outage of at most `outage_s` seconds (Database.read)."""
        return await self.ctx.database.read(query, outage_s)
