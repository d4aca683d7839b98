"""What answers cost since the beginning, for the metrics.

The tables have a row an hour, tenant, endpoint and model, and grow for years. Nobody adds to an
hour that is over, so its sums are kept in the process: the first look reads all of it, which takes
most of a second with a million rows, the others read the last two hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

from cachetools import LRUCache

from openaibatching.server.billing import spending as billing_spending
from openaibatching.server.billing.spending import FailureSum, SpendingSum
from openaibatching.server.database.statements import Connection

T = TypeVar("T", SpendingSum, FailureSum)
Key = tuple[str, str | int]

TENANTS_MAX = 100
"""So many tenants' sums are kept; another's are read anew."""
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class AllTotals:
    """Those of all tenants, and of each tenant that has asked for its own lately."""

    def __init__(self) -> None:
        self._by_tenant: LRUCache[str | None, Totals] = LRUCache(TENANTS_MAX)

    def of(self, tenant: str | None) -> Totals:
        """A tenant's, or, for None, those of all."""
        if tenant not in self._by_tenant:
            self._by_tenant[tenant] = Totals(tenant)
        return self._by_tenant[tenant]


class Totals:
    """Of all tenants or of one. `read` may be called by any number of callers at once."""

    def __init__(self, tenant: str | None = None) -> None:
        self._tenant = tenant
        self._spending = _Sums[SpendingSum](lambda row: (row.endpoint, row.model))
        self._failures = _Sums[FailureSum](lambda row: (row.endpoint, row.status_code))
        self._reading = asyncio.Lock()

    async def read(self, conn: Connection) -> tuple[list[SpendingSum], list[FailureSum]]:
        """All that was spent, by endpoint and model; all that failed, by endpoint and status."""
        async with self._reading:  # what has settled meanwhile is kept once
            spending = self._spending.add(
                await billing_spending.sum_spending(conn, self._spending.since, self._tenant)
            )
            failures = self._failures.add(
                await billing_spending.sum_failures(conn, self._failures.since, self._tenant)
            )
        return spending, failures


class _Sums(Generic[T]):
    """`since`: the first hour that is not kept."""

    def __init__(self, key: Callable[[T], Key]) -> None:
        self._key: Callable[[T], Key] = key
        self._kept: dict[Key, T] = {}
        self.since = _BEGINNING

    def add(self, rows: Iterable[T]) -> list[T]:
        """The sums of what is kept and of these rows, of which the settled ones are kept."""
        rows = list(rows)
        kept, fresh = dict(self._kept), [row for row in rows if not row.settled]
        self._put(kept, [row for row in rows if row.settled])
        self._kept = kept
        if rows:
            self.since = max(self.since, rows[0].settled_to)
        found = dict(kept)
        self._put(found, fresh)
        return list(found.values())

    def _put(self, sums: dict[Key, T], rows: Iterable[T]) -> None:
        for row in rows:
            key = self._key(row)
            sums[key] = sums[key] + row if key in sums else replace(row)
