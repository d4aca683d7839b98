"""What every step is given: the settings, the database, OpenAI, and this server's leases."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from openaibatching.server.billing.prices import PriceList
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.pool import Database
from openaibatching.server.pipeline.leases import Leases
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.telemetry.tracing import Tracing


def _new_server_number() -> int:
    return uuid.uuid4().int % 2**31


@dataclass
class Context:
    """One server. `clock` is None in production: the database's clock is everybody's."""

    settings: Settings
    database: Database
    upstream: Upstream
    clock: Callable[[], datetime] | None = None
    tracing: Tracing | None = None
    prices: PriceList = field(default_factory=PriceList)
    server: int = field(default_factory=_new_server_number)
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self.leases = Leases(self.database, self.server, self.now)

    def now(self) -> datetime | None:
        """The time if a test owns the clock, else None for the database's own now()."""
        return self.clock() if self.clock else None
