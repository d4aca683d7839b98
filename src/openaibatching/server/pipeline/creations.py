"""Creations an hour, which all tenants share: who may have the next one. Pure.

OpenAI takes 2,000 batches an hour from all tenants together. A tenant may have used at most so many
times what is then left. So one tenant alone gets four fifths of them, two get four ninths each, and
whoever comes later always finds some (dynamic thresholds: A. Choudhury and E. Hahne, "Dynamic queue
length thresholds for shared-memory packet switches", 1998).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from openaibatching.server.config.settings import UPSTREAM_CREATES_PER_HOUR

TIMES_WHAT_IS_LEFT = 4
FLUSHED_SHARE = 0.5
"""Of what a tenant may use, what may go into batches that did not wait for more requests."""
IN_HAND_MAX = 16
"""Batches of a tenant that wait for their upload or creation. More are not made yet, because those
of other tenants would wait behind them."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a tenant has used: a batch with requests of two tenants is half a creation for each.

    `in_hand` are its batches that can be uploaded or created now. `tenant` is None for what
    belongs to nobody any more.
    """

    tenant: str | None
    creations: float
    in_hand: int


@dataclass(frozen=True, slots=True)
class Creations:
    """The creations of the last hour, with those that are about to be sent."""

    used: dict[str, float] = field(default_factory=dict)
    in_hand: dict[str, int] = field(default_factory=dict)
    total: int = 0

    @staticmethod
    def of(rows: Iterable[Used]) -> Creations:
        """From what each tenant has used."""
        rows = list(rows)
        own = [row for row in rows if row.tenant is not None]
        return Creations(
            {str(row.tenant): row.creations for row in own},
            {str(row.tenant): row.in_hand for row in own},
            round(sum(row.creations for row in rows)),
        )

    @property
    def free(self) -> int:
        """How many are left to all."""
        return max(0, UPSTREAM_CREATES_PER_HOUR - self.total)

    def may(self, tenant: str, share: float = 1.0) -> bool:
        """Whether the tenant may have another one, of this share of what it may use."""
        return self.used.get(tenant, 0.0) < share * TIMES_WHAT_IS_LEFT * self.free

    @property
    def waiting(self) -> list[str]:
        """The tenants for whose sake no batch is made now."""
        busy = {tenant for tenant, n in self.in_hand.items() if n >= IN_HAND_MAX}
        return sorted(busy | {tenant for tenant in self.used if not self.may(tenant)})

    @property
    def unhurried(self) -> list[str]:
        """The tenants whose requests wait for others, whatever they wish."""
        return sorted(tenant for tenant in self.used if not self.may(tenant, FLUSHED_SHARE))
