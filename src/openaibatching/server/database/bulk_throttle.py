"""Turns: work on many rows makes room for single calls.

On a small machine that has PostgreSQL as well, two large statements and the server leave no core to
somebody who makes one call, and who waits for them at each of its steps. So while there are such
callers, a server's large work is done part after part, and the parts are smaller. While there are
none, it goes side by side, which is faster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

CALLED_S = 1.0
"""So long after a single call another one is expected."""
SMALLER = 4


class Turns:
    """Which part of its large work a server does now, and how large it may be."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._one = asyncio.Lock()
        self._called_at: float | None = None

    def called(self) -> None:
        """A single call has come."""
        self._called_at = self._clock()

    @property
    def _wanted(self) -> bool:
        return self._called_at is not None and self._clock() - self._called_at < CALLED_S

    def part(self, most: int) -> int:
        """How much a part may have now, where it has `most` while nobody calls."""
        return max(1, most // SMALLER) if self._wanted else most

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """The time for one part, when it is its turn. Not to be nested."""
        if self._wanted:
            async with self._one:
                yield
        else:
            yield
