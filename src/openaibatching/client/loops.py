"""One asynchronous client in several event loops: what belongs to a loop is made once for each.

A future or a connection of one loop cannot be waited for in another one.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from openai import DefaultAsyncHttpxClient
from openai._base_client import AsyncHttpxClientWrapper

Made = TypeVar("Made")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs here; None under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class PerLoop(Generic[Made]):
    """`make()` once for each event loop; what was made for a loop goes with it."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[asyncio.AbstractEventLoop | None, Made] = {}

    def here(self) -> Made:
        """That of the running loop."""
        loop = running_loop()
        found = self._made.get(loop)
        if found is None:
            with self._lock:
                for ended in [other for other in self._made if other and other.is_closed()]:
                    del self._made[ended]
                found = self._made[loop] = self._make()
        return found

    def take(self) -> Made | None:
        """That of the running loop, which is forgotten."""
        with self._lock:
            return self._made.pop(running_loop(), None)


class LoopsHttpClient(AsyncHttpxClientWrapper):
    """The official HTTP client, with connections of their own for each event loop."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._options, self._used = options, False
        self._first: asyncio.AbstractEventLoop | None = None
        self._loops: PerLoop[Any] = PerLoop(self._next)

    def _next(self) -> Any:
        if self._used:
            return DefaultAsyncHttpxClient(**self._options)
        self._used, self._first = True, running_loop()
        return self

    def __del__(self) -> None:
        if running_loop() is self._first:  # nothing of another loop can be closed in this one
            super().__del__()

    async def send(self, request: Any, **options: Any) -> Any:
        """Send by the connections of the running loop. Raises RuntimeError once closed."""
        here = self if self.is_closed else self._loops.here()
        if here is self:
            return await super().send(request, **options)
        return await here.send(request, **options)

    async def aclose(self) -> None:
        """Close the connections of this loop. Those of another one end with it."""
        here = self._loops.take()
        if here is not None and here is not self:
            await here.aclose()
        if here is self or not self._used:
            await super().aclose()
            return
        with suppress(RuntimeError):  # of a connection whose loop has ended
            await super().aclose()
