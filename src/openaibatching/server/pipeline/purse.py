"""What budgets leave for the next batch, as it is filled. Pure.

A request counts what it costs at most. Where that is unknown, it counts a multiple of its estimate,
so that such a batch is small beside what is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from openaibatching.server.config.settings import ALL_TENANTS
from openaibatching.server.pipeline.queue import Queued

UNBOUNDED = 10
"""So many times its estimate counts a request that has no bound."""
WITHOUT_ESTIMATE = 100
"""So many requests that were accepted without a budget share what is left."""
_ROUNDING = 1e-9
"""USD."""


class Purse:
    """What is left of each budget: {tenant, or ALL_TENANTS: USD}. Others are not limited."""

    def __init__(self, left: Mapping[str, float]) -> None:
        self._left = left
        self._taken: defaultdict[str, float] = defaultdict(float)
        self._closed: set[str] = set()

    @property
    def empty(self) -> bool:
        """Whether no tenant may take more."""
        return ALL_TENANTS in self._closed

    def take(self, request: Queued) -> bool:
        """Whether the request may go along.

        The first one of a budget always may: it is the one that may pass it. After one that may
        not, no other one of that budget may, so that a large one is not overtaken for ever.
        """
        if not self._left:
            return True
        names = [name for name in (request.tenant, ALL_TENANTS) if name in self._left]
        if any(name in self._closed for name in names):
            return False
        for name in names:
            usd = self._taken[name] + _usd(request, self._left[name])
            if self._taken[name] and usd > self._left[name] + _ROUNDING:
                self._closed.add(name)
                return False
        for name in names:
            self._taken[name] += _usd(request, self._left[name])
        return True


def _usd(request: Queued, left: float) -> float:
    if request.usd_most is not None:
        return request.usd_most
    if request.usd is not None:
        return request.usd * UNBOUNDED
    return left / WITHOUT_ESTIMATE
