"""Calls in the air together travel together: the half for threads."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Any

from openaibatching.client import coalescing
from openaibatching.client.coalescing import Company

Send = Callable[..., Any]


@dataclass(eq=False)
class _Call:
    """A call that waits for its response; None tells it to go alone."""

    request: Any
    answered: Future[Any]
    send: Send


class Coalescer:
    """Gathers the calls that other threads make while some are in the air."""

    def __init__(self, http_client: Any, base_path: str) -> None:
        """`base_path` is that of the API, `/v1/`."""
        self.http_client, self.base_path = http_client, base_path
        self._no_bulk_door = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._queues: defaultdict[Company, list[_Call]] = defaultdict(list)
        self._timers: dict[Company, threading.Timer] = {}
        self._in_flight: Counter[Company] = Counter()

    def send(self, request: Any, send: Send) -> Any:
        """The HTTP response to `request`, which `send` sends alone."""
        if self._process != os.getpid():  # forked: the other threads, and their calls, are not here
            self._begin()
        company = None if self._no_bulk_door else coalescing.company(request, self.base_path)
        if company is None:
            return send(request, stream=False)
        call = self._queued(company, request, send)
        response = None if call is None else call.answered.result()
        if response is not None:
            return response
        try:
            return send(request, stream=False)
        finally:
            self._landed(company)

    def _queued(self, company: Company, request: Any, send: Send) -> _Call | None:
        """The call in its queue; None if it may go alone at once."""
        with self._lock:
            seconds = coalescing.linger_s(self._in_flight[company])
            if not seconds and company not in self._timers:
                self._in_flight[company] += 1
                return None
            call = _Call(request, Future(), send)
            self._queues[company].append(call)
            if company not in self._timers:
                self._timers[company] = threading.Timer(seconds, self._flush, (company,))
                self._timers[company].daemon = True
                self._timers[company].start()
            return call

    def _landed(self, company: Company) -> None:
        with self._lock:
            self._in_flight[company] -= 1
            waited_for = company in self._timers
        if waited_for:
            self._flush(company)

    def _flush(self, company: Company) -> None:
        with self._lock:
            timer = self._timers.pop(company, None)
            calls = self._queues.pop(company, [])
            portions = list(coalescing.portions([len(call.request.content) for call in calls]))
            self._in_flight[company] += len(portions) if calls else 0
        if timer is not None:
            timer.cancel()
        if len(calls) == 1:
            calls[0].answered.set_result(None)
        elif calls:
            for portion in portions:
                # A thread of its own: no caller may have to read the answers of the others.
                threading.Thread(
                    target=self._travel, args=(company, calls[portion]), daemon=True
                ).start()

    def _travel(self, company: Company, calls: Sequence[_Call]) -> None:
        """One bulk call."""
        error: BaseException
        try:
            self._exchange(company, calls)
            error = coalescing.cut_off(calls[0].request, "the bulk reply ended too early")
        except BaseException as failure:
            error = failure
        self._landed(company)
        for call in calls:
            if not call.answered.done():
                call.answered.set_exception(error)

    def _exchange(self, company: Company, calls: Sequence[_Call]) -> None:
        requests = [call.request for call in calls]
        lines = [coalescing.line(request, self.base_path, n) for n, request in enumerate(requests)]
        request = coalescing.bulk_request(self.http_client, company, b"".join(lines))
        started = monotonic()
        reply = calls[0].send(request, stream=True)
        refusal: bytes | None = None
        try:
            if coalescing.is_bulk_reply(reply):
                reading = coalescing.Reading(reply, requests, started)
                for chunk in reply.iter_bytes():
                    try:
                        for place, response in reading.feed(chunk, monotonic()):
                            calls[place].answered.set_result(response)
                    except (ValueError, IndexError) as error:
                        raise coalescing.cut_off(request, str(error)) from error
                alone = reading.unread
            else:
                refusal = reply.read()
                alone = reply.status_code in coalescing.NO_BULK_DOOR
                self._no_bulk_door |= alone
        finally:
            reply.close()
        for call in calls:
            if alone and not call.answered.done():
                with self._lock:
                    self._in_flight[company] += 1
                call.answered.set_result(None)
            elif refusal is not None:
                call.answered.set_result(coalescing.copied(reply, refusal, call.request))
