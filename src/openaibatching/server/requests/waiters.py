"""Deliver: callers that wait hear of their request's end.

A notification only says that something has finished; the rows say what. All waiting ids are
then read in bulk, and looked at now and then without one, because notifications can be lost.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import suppress

from openaibatching.server.auth.open_calls import OpenCall
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.request import Request
from openaibatching.server.errors import DatabaseUnavailable
from openaibatching.server.requests import store

LOOK_S, LOOK_AGAIN_S = 5.0, 0.25
LOOKING_SHARE = 0.1
"""Of the time, at most: a look at 20,000 requests costs the database some 30 ms."""
IDS_AT_ONCE = 64


class Deliverer:
    """Who waits for what."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[uuid.UUID, set[asyncio.Future[Request]]] = defaultdict(set)
        self._fresh: set[uuid.UUID] = set()
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._finished = False
        self._closing = False

    def finished(self) -> None:
        """Some request has finished."""
        self._finished = True
        self._wake.set()
        self.tell()

    def close(self) -> None:
        """Send every waiting caller home with what is known: the server stops."""
        self._closing = True
        self.tell()
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()

    def tell(self) -> None:
        """Wake all who wait in `finished_of`: they look for what has changed."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, id_: uuid.UUID, timeout: float, call: OpenCall) -> Request | None:
        """The finished request, with its answer; None when `timeout` seconds pass first, or when
        the key of the call ends or its caller leaves."""
        if self._closing or timeout <= 0:
            return None
        future: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        call.on_end(future.cancel)
        self._waiting[id_].add(future)
        # It may have finished between the caller's reading and this line.
        self._fresh.add(id_)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                # The wait, not the future, is what a stopping server cancels.
                await asyncio.wait((future,))
        except TimeoutError:
            return None
        finally:
            self._waiting[id_].discard(future)
            if not self._waiting[id_]:
                del self._waiting[id_]
        return None if future.cancelled() else future.result()

    async def finished_of(
        self, ids: Collection[uuid.UUID], deadline: float, call: OpenCall
    ) -> AsyncIterator[list[uuid.UUID]]:
        """Those of `ids` that have finished, some at a time as they do; until all have, or until
        `deadline` (the event loop's time), or until the server stops or the call's key ends."""
        loop = asyncio.get_running_loop()
        left = set(ids)
        while left and not (self._closing or call.key_ended) and loop.time() < deadline:
            news = self._news  # taken before the look, so that nothing falls between the two
            looked_at = loop.time()
            found: list[uuid.UUID] = []
            with suppress(DatabaseUnavailable):  # looked at again
                async with self._database.turns.take(), self._database.statement() as conn:
                    found = await store.which_finished(conn, list(left))
            took_s = loop.time() - looked_at
            left -= set(found)
            if found:
                yield found
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, looked_at + LOOK_S)):
                    if not found:
                        await news.wait()
                    # Many ends are told one by one, and each look is at all that are waited for.
                    pause_s = max(took_s / LOOKING_SHARE, 0.0 if found else LOOK_AGAIN_S)
                    await asyncio.sleep(looked_at + pause_s - loop.time())

    async def run(self) -> None:
        """Read the waiting requests when told to, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                self._finished = True
            self._wake.clear()
            ids = set(self._waiting) if self._finished else self._fresh & self._waiting.keys()
            self._finished, self._fresh = False, set()
            try:
                await self._read(ids)
            except DatabaseUnavailable:
                self._finished = True  # look again at all of them in LOOK_S

    async def _read(self, ids: set[uuid.UUID]) -> None:
        ordered = list(ids)
        for start in range(0, len(ordered), IDS_AT_ONCE):
            chunk = ordered[start : start + IDS_AT_ONCE]
            async with self._database.transaction() as conn:
                requests = await store.read_finished_requests(conn, chunk)
            for request in requests:
                for future in self._waiting.get(request.id, ()):
                    if not future.done():
                        future.set_result(request)
