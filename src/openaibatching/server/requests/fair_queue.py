"""A queue that takes turns between tenants: each one's first is before any other's second. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """What was put first for a tenant comes first of what is this tenant's."""

    def __init__(self) -> None:
        # In the order of whose turn is next.
        self._waiting: dict[str, deque[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, tenant: str, item: T) -> None:
        """Behind all that the tenant has in it."""
        self._waiting.setdefault(tenant, deque()).append(item)

    def take(self) -> T:
        """The next one; its tenant's turn is then after that of all others. Raises IndexError."""
        if not self._waiting:
            raise IndexError("nothing is queued")
        tenant = next(iter(self._waiting))
        items = self._waiting.pop(tenant)
        item = items.popleft()
        if items:
            self._waiting[tenant] = items
        return item
