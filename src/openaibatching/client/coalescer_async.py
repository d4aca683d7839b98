"""Calls in the air together travel together: the asynchronous half, on the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from openaibatching.client import coalescing
from openaibatching.client.coalescing import Company
from openaibatching.client.loops import PerLoop, running_loop

Send = Callable[..., Awaitable[Any]]


@dataclass(eq=False)
class _Call:
    """A call that waits for its response; None tells it to go alone."""

    request: Any
    answered: asyncio.Future[Any]
    send: Send


class AsyncCoalescer:
    """Gathers the calls of each event loop that come in one turn of it, or while others are in the
    air."""

    def __init__(self, http_client: Any, base_path: str) -> None:
        """`base_path` is that of the API, `/v1/`."""
        self.http_client, self.base_path = http_client, base_path
        self.no_bulk_door = False
        self._loops = PerLoop(lambda: _Gathering(self))

    async def send(self, request: Any, send: Send) -> Any:
        """The HTTP response to `request`, which `send` sends alone."""
        company = None if self.no_bulk_door else coalescing.company(request, self.base_path)
        if company is None or running_loop() is None:
            return await send(request, stream=False)
        return await self._loops.here().send(company, request, send)


class _Gathering:
    """The calls of one event loop."""

    def __init__(self, client: AsyncCoalescer) -> None:
        self._client, self._loop = client, asyncio.get_running_loop()
        self._queues: defaultdict[Company, list[_Call]] = defaultdict(list)
        self._flushes: dict[Company, asyncio.Handle] = {}
        self._in_flight: Counter[Company] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, company: Company, request: Any, send: Send) -> Any:
        """The HTTP response to `request`, alone or with others of its company."""
        call = _Call(request, self._loop.create_future(), send)
        self._queues[company].append(call)
        if company not in self._flushes:
            self._schedule(company)
        response = await call.answered
        if response is not None:
            return response
        try:
            return await send(request, stream=False)
        finally:
            self._landed(company)

    def _schedule(self, company: Company) -> None:
        seconds = coalescing.linger_s(self._in_flight[company])
        self._flushes[company] = (
            self._loop.call_later(seconds, self._flush, company)
            if seconds
            else self._loop.call_soon(self._flush, company)
        )

    def _landed(self, company: Company) -> None:
        self._in_flight[company] -= 1
        if company in self._flushes:
            self._flushes.pop(company).cancel()
            self._flush(company)

    def _flush(self, company: Company) -> None:
        self._flushes.pop(company, None)
        calls = [call for call in self._queues.pop(company, ()) if not call.answered.done()]
        if len(calls) == 1:
            self._in_flight[company] += 1
            calls[0].answered.set_result(None)
            return
        for portion in coalescing.portions([len(call.request.content) for call in calls]):
            if calls[portion]:
                self._in_flight[company] += 1
                task = asyncio.create_task(self._travel(company, calls[portion]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _travel(self, company: Company, calls: Sequence[_Call]) -> None:
        """One bulk call. It ends early when nobody is left who waits for it."""
        task, left = asyncio.current_task(), len(calls)

        def one_less(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0 and task is not None and any(c.answered.cancelled() for c in calls):
                task.cancel()

        for call in calls:
            call.answered.add_done_callback(one_less)
        try:
            await self._exchange(company, calls)
            error = coalescing.cut_off(calls[0].request, "the bulk reply ended too early")
        except Exception as failure:
            error = failure
        finally:
            self._landed(company)
        for call in calls:
            if not call.answered.done():
                call.answered.set_exception(error)

    async def _exchange(self, company: Company, calls: Sequence[_Call]) -> None:
        requests = [call.request for call in calls]
        lines = [
            coalescing.line(request, self._client.base_path, n)
            for n, request in enumerate(requests)
        ]
        request = coalescing.bulk_request(self._client.http_client, company, b"".join(lines))
        started = monotonic()
        reply = await calls[0].send(request, stream=True)
        refusal: bytes | None = None
        try:
            if coalescing.is_bulk_reply(reply):
                reading = coalescing.Reading(reply, requests, started)
                async for chunk in reply.aiter_bytes():
                    try:
                        for place, response in reading.feed(chunk, monotonic()):
                            _answer(calls[place], response)
                    except (ValueError, IndexError) as error:
                        raise coalescing.cut_off(request, str(error)) from error
                alone = reading.unread
            else:
                refusal = await reply.aread()
                alone = reply.status_code in coalescing.NO_BULK_DOOR
                self._client.no_bulk_door |= alone
        finally:
            await reply.aclose()
        for call in calls:
            if alone and not call.answered.done():
                self._in_flight[company] += 1
                call.answered.set_result(None)
            elif refusal is not None:
                _answer(call, coalescing.copied(reply, refusal, call.request))


def _answer(call: _Call, response: Any) -> None:
    if not call.answered.done():  # its caller may have gone
        call.answered.set_result(response)
