"""The bulk door, out: the output lines of a roll, in its order or as their requests finish."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from openaibatching.server import errors
from openaibatching.server.api import replies
from openaibatching.server.api.bulk import lines as bulk_lines
from openaibatching.server.api.bulk.lines import Entry
from openaibatching.server.api.bulk.spool import Roll
from openaibatching.server.api.modes import Mode
from openaibatching.server.api.state import Door
from openaibatching.server.auth.open_calls import OpenCall
from openaibatching.server.database.outages import OUTAGE_S_MAX
from openaibatching.server.domain.request import Request
from openaibatching.server.requests import store

WINDOW_LINES = 20_000
"""So many lines are looked at together when they come as they finish: memory is bounded by it."""
READ_AT_ONCE = 256


async def in_order(
    door: Door, tenant: str, roll: Roll, wait: float, call: OpenCall, mode: Mode = Mode.EMPTY
) -> AsyncIterator[bytes]:
    """The output lines, a portion at a time, each when it has finished or time is up."""
    deadline = _now() + wait
    reader = _Reader(door, tenant, mode, call)
    try:
        for entries in roll.read():
            async for _ in door.deliverer.finished_of(_ids(entries), deadline, call):
                pass
            async for lines in reader.answer(entries):
                yield lines
    finally:
        roll.close()


async def as_they_finish(
    door: Door, tenant: str, roll: Roll, wait: float, call: OpenCall, mode: Mode = Mode.EMPTY
) -> AsyncIterator[bytes]:
    """The output lines in whatever order their requests finish, and the others when time is up."""
    deadline = _now() + wait
    reader = _Reader(door, tenant, mode, call)
    try:
        async for entries in _windows(roll):
            left: dict[uuid.UUID | None, list[Entry]] = {}
            for entry in entries:
                left.setdefault(entry.id, []).append(entry)
            async for lines in reader.answer(left.pop(None, [])):  # refused when they were read
                yield lines
            async for found in door.deliverer.finished_of(_ids_of(left), deadline, call):
                async for lines in reader.answer(e for id_ in found for e in left.pop(id_)):
                    yield lines
            async for lines in reader.answer(e for some in left.values() for e in some):
                yield lines
    finally:
        roll.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ids(entries: Iterable[Entry]) -> set[uuid.UUID]:
    return {entry.id for entry in entries if entry.id is not None}


def _ids_of(left: Collection[uuid.UUID | None]) -> list[uuid.UUID]:
    return [id_ for id_ in left if id_ is not None]


async def _windows(roll: Roll) -> AsyncIterator[list[Entry]]:
    window: list[Entry] = []
    for entries in roll.read():
        window += entries
        await asyncio.sleep(0)  # there are many portions in a window
        if len(window) >= WINDOW_LINES:
            yield window
            window = []
    if window:
        yield window


class _Reader:
    """Reads what the entries are to be answered, a few hundred at a time."""

    def __init__(self, door: Door, tenant: str, mode: Mode, call: OpenCall) -> None:
        self._door, self._tenant, self._mode, self._call = door, tenant, mode, call
        self._turns = door.ctx.database.turns
        self._outage_s = OUTAGE_S_MAX

    async def answer(self, entries: Iterable[Entry]) -> AsyncIterator[bytes]:
        """The output lines of these entries, in their order; refusals once the key has ended."""
        for portion in self._portions(entries):
            await asyncio.sleep(0)  # others have their turn, even if nothing has to be waited for
            if self._call.key_ended:
                ended = errors.InvalidApiKey()
                yield b"".join(bulk_lines.refused(entry, ended) for entry in portion)
                continue
            try:
                by_id = await self._read(portion)
            except errors.DatabaseUnavailable as error:
                # As a single call would hear it: what is accepted stays so, and may be asked for
                # again. It is waited for once, not with each portion.
                self._outage_s = 0.0
                yield b"".join(bulk_lines.refused(entry, error) for entry in portion)
                continue
            lines: list[bytes] = []
            for entry in portion:
                request = entry.request or (None if entry.id is None else by_id.get(entry.id))
                if request is not None and request.answer_left_out:
                    # A large one goes out by itself, so that no two are in memory at once.
                    yield b"".join(lines)
                    lines = []
                    yield await self._large(entry, request)
                else:
                    lines.append(self._line(entry, request))
            yield b"".join(lines)

    def _portions(self, entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
        left = iter(entries)
        while portion := list(islice(left, self._turns.part(READ_AT_ONCE))):
            yield portion

    async def _read(self, entries: Iterable[Entry]) -> dict[uuid.UUID, Request]:
        ids = _ids(entry for entry in entries if entry.request is None)
        if not ids:
            return {}
        query = partial(store.read_requests, tenants=[self._tenant], ids=list(ids))
        async with self._turns.take():
            found = await self._door.read(query, self._outage_s)
        return {request.id: request for request in found}

    async def _large(self, entry: Entry, request: Request) -> bytes:
        try:
            query = partial(store.read_request, tenants=[self._tenant], id_=request.id)
            found = await self._door.read(query)
        except errors.DatabaseUnavailable as error:
            return bulk_lines.refused(entry, error)
        return self._line(entry, found)

    def _line(self, entry: Entry, request: Request | None) -> bytes:
        if entry.id is None:
            return bulk_lines.refused(entry)
        if request is None:
            return bulk_lines.refused(entry, errors.NotFound("The request was deleted meanwhile."))
        if entry.body_id not in (None, request.body_id):
            return bulk_lines.refused(entry, errors.IdempotencyKeyReused())
        self._door.answers_read.note(request)
        eta = self._door.eta(request)
        poll_s = self._door.ctx.settings.batch_poll_s
        reply = replies.reply(request, poll_s, eta, self._mode)
        return bulk_lines.answered(entry, request.id, reply)
