"""Accept: calls become durable requests. Those that arrive while a commit is under way share
the next one, so the price of a commit is paid once for all of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

from openaibatching.server.database.outages import OUTAGE_S_MAX
from openaibatching.server.database.pool import Database
from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.request import Call, Request
from openaibatching.server.errors import DatabaseUnavailable, IdempotencyKeyReused, Refusal
from openaibatching.server.requests import store as request_store
from openaibatching.server.requests.fair_queue import FairQueue
from openaibatching.server.telemetry import logs

log = logs.get()

WRITERS = 2
CALLS_AT_ONCE = 256
BYTES_AT_ONCE = 8_000_000

Waiter = tuple[Call, "asyncio.Future[Request]"]


class Acceptor:
    """The coalescing writers. `accept` returns only when the request is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: FairQueue[Waiter] = FairQueue()
        self._arrived = asyncio.Event()

    async def accept(self, call: Call) -> Request:
        """Store the call, or find it; the request as it is now. If it has finished, its answer
        is there too, unless that is large (store.ANSWER_BYTES_INLINE).

        Raises IdempotencyKeyReused, or DatabaseUnavailable: then it may or may not be stored,
        and the same call sent again settles that.
        """
        self._database.turns.called()
        future: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        self._queue.put(call.tenant, (call, future))
        self._arrived.set()
        request = await future
        if request.body_id != call.body_id and not call.first_body:
            raise IdempotencyKeyReused
        return request

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            await self._arrived.wait()
            await self._write_some()

    async def _write_some(self) -> None:
        # A function of its own: what was written is not kept in memory until there is more.
        chunk = self._take()
        if not chunk:
            self._arrived.clear()
            return
        try:
            await self._store(chunk)
        except Refusal as error:
            _fail(chunk, error)
        except asyncio.CancelledError:
            _fail(chunk, DatabaseUnavailable())
            raise
        except Exception as error:
            log.exception("storing_failed", requests=len(chunk))
            _fail(chunk, error)

    def _take(self) -> list[Waiter]:
        chunk: list[Waiter] = []
        size = 0
        while self._queue and len(chunk) < CALLS_AT_ONCE and size < BYTES_AT_ONCE:
            call, future = self._queue.take()
            if not future.done():  # its caller has gone; not yet accepted, so nothing is lost
                chunk.append((call, future))
                size += len(call.body)
        return chunk

    async def _store(self, chunk: list[Waiter]) -> None:
        requests = await self._stored([call for call, _ in chunk], self._database.accepting)
        for call, future in chunk:
            if not future.done():
                future.set_result(requests[call.id])

    async def store(self, calls: Iterable[Call]) -> dict[uuid.UUID, Request]:
        """Store these calls by one statement, or find them: {id: request}.

        Of two bodies under one id the first counts. Raises as `accept` does.
        """
        return await self._stored(calls, self._database.statement)

    async def _stored(
        self,
        calls: Iterable[Call],
        connection: Callable[[], AbstractAsyncContextManager[Connection]],
    ) -> dict[uuid.UUID, Request]:
        left: dict[uuid.UUID, Call] = {}
        for call in calls:
            left.setdefault(call.id, call)
        requests: dict[uuid.UUID, Request] = {}
        deadline = asyncio.get_running_loop().time() + OUTAGE_S_MAX
        while left:
            try:
                async with connection() as conn:
                    found = await request_store.accept_requests(conn, list(left.values()))
            except DatabaseUnavailable:
                # Storing again is safe even if the lost commit took effect: same ids.
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(0.1)
                continue
            requests |= {request.id: request for request in found}
            # What is left was committed by somebody else during the statement, which waited for
            # it and cannot see it; the next one can.
            left = {id_: call for id_, call in left.items() if id_ not in requests}
        return requests


def _fail(chunk: list[Waiter], error: Exception) -> None:
    for _, future in chunk:
        if not future.done():
            future.set_exception(error)
