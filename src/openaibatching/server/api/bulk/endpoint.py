"""The bulk door: many calls in one POST, a line each, in and out as streams.

Lines are stored as they arrive, one commit for a few hundred of them, while the next ones are read;
a caller that sends faster than the database stores is held back by TCP. What each line is to be
answered is noted on a roll, which goes to disk when it grows: its request, as it was stored, for a
caller that does not wait. The answers are written when the input has been read to its end
(api/bulk/response.py). So memory is flat however many lines there are, and a caller that reads
nothing before it has sent everything gets through."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from openaibatching.server import errors
from openaibatching.server.api import modes, replies
from openaibatching.server.api.bulk import lines as bulk_lines
from openaibatching.server.api.bulk import response
from openaibatching.server.api.bulk.lines import MEDIA_TYPES, Entry
from openaibatching.server.api.bulk.spool import Roll
from openaibatching.server.api.http import reading
from openaibatching.server.api.state import Door
from openaibatching.server.auth.open_calls import OpenCall
from openaibatching.server.domain.jsonl import Lines
from openaibatching.server.domain.request import Call, Request

LINES_AT_ONCE = 256
BYTES_AT_ONCE = 500_000
COMMITS_AT_ONCE = 2
"""The next portion is on its way to the database while the last one is on its way to the disk."""
ENVELOPE_BYTES_MAX = 65_536
"""What a line may have beside its body: custom_id, url, idempotency_key."""

ReadLine = Callable[[bytes | None], tuple[Entry, Call | None]]


async def post_requests(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests: batch input lines in, batch output lines out."""
    holder = await reading.holder(http, door.keyring)
    await reading.check_media(http, *MEDIA_TYPES)
    try:
        first_body = reading.first_body(http)
    except errors.Refusal:
        await reading.drain(http)
        raise
    read = partial(bulk_lines.read_line, door.ctx.settings, holder.tenant, first_body=first_body)
    wait = reading.wait_s(http, door.ctx.settings.wait_s_max)
    unordered = wait is not None and reading.preference(http, "order") == "finished"
    roll = Roll(door.ctx.settings.spool_dir)
    open_call = door.keyring.open_call(holder)
    open_call.on_end(door.deliverer.tell)
    try:
        await _take_in(door, http, read, _Storing(door, roll, open_call, waits=bool(wait)))
    except BaseException:
        roll.close()
        raise
    headers = {"Retry-After": replies.retry_after(door.ctx.settings.batch_poll_s)}
    if wait is not None:
        headers["Preference-Applied"] = "wait, order=finished" if unordered else "wait"
    give_out = response.as_they_finish if unordered else response.in_order
    return StreamingResponse(
        give_out(door, holder.tenant, roll, wait or 0.0, open_call, modes.of(http.scope)),
        headers=headers,
        media_type=MEDIA_TYPES[0],
    )


async def _take_in(door: Door, http: HttpRequest, read_line: ReadLine, storing: _Storing) -> None:
    """Store every call of the body, and note on the roll what each line is to be answered.

    Raises DatabaseUnavailable, or InvalidApiKey if the key has ended, when the body has come to its
    end, because a caller that is still sending does not read; what was stored by then stays so.
    """
    traceparent = door.traceparent(http)
    failure: errors.Refusal | None = None
    try:
        async for lines in _portions(door, http):
            if failure is not None:
                continue
            # In a thread: no other caller should wait for these milliseconds.
            read = await asyncio.to_thread(_understand, read_line, lines)
            if traceparent is not None:
                read = [
                    (entry, call and replace(call, traceparent=traceparent)) for entry, call in read
                ]
            try:
                await storing.add(read)
            except errors.Refusal as error:
                failure = error
    finally:
        # What was read is stored, even when the caller has gone.
        await storing.settle()
    if failure is not None:
        raise failure
    await storing.finish()


class _Storing:
    """The portions that are on their way to the database, the oldest first."""

    def __init__(self, door: Door, roll: Roll, call: OpenCall, *, waits: bool) -> None:
        self._door, self._roll, self._call, self._waits = door, roll, call, waits
        self._tasks: deque[tuple[list[Entry], asyncio.Task[dict[uuid.UUID, Request]]]] = deque()

    async def add(self, read: Sequence[tuple[Entry, Call | None]]) -> None:
        """Store these calls in their turn. Raises what storing earlier ones raised."""
        while len(self._tasks) >= COMMITS_AT_ONCE:
            await self._note_oldest()
        if self._call.key_ended:
            raise errors.InvalidApiKey
        calls = [call for _, call in read if call is not None]
        entries = [entry for entry, _ in read]
        calls, refused = await self._door.admit(calls)
        if refused:
            entries = [_refuse(entry, refused) for entry in entries]
        self._tasks.append((entries, asyncio.create_task(self._store(calls))))

    async def _store(self, calls: Sequence[Call]) -> dict[uuid.UUID, Request]:
        async with self._door.ctx.database.turns.take():
            return await self._door.acceptor.store(calls)

    async def finish(self) -> None:
        """Note the rest. Raises what storing it raised."""
        while self._tasks:
            await self._note_oldest()

    async def settle(self) -> None:
        """Until nothing is on its way any more, however it ends."""
        await asyncio.gather(*(task for _, task in self._tasks), return_exceptions=True)

    async def _note_oldest(self) -> None:
        entries, task = self._tasks[0]
        await asyncio.wait((task,))  # not `await task`: who is cancelled here leaves it to itself
        requests = task.result()
        if not self._waits:
            _note(entries, requests)
        self._roll.write(entries)
        self._tasks.popleft()


def _refuse(entry: Entry, refused: Mapping[uuid.UUID, errors.Refusal]) -> Entry:
    refusal = refused.get(entry.id) if entry.id is not None else None
    return entry if refusal is None else bulk_lines.refuse(entry, refusal)


def _note(entries: Sequence[Entry], requests: Mapping[uuid.UUID, Request]) -> None:
    for entry in entries:
        if entry.id is not None and not requests[entry.id].finished:  # answers may be large
            entry.request = requests[entry.id]


def _understand(
    read_line: ReadLine, lines: Sequence[bytes | None]
) -> list[tuple[Entry, Call | None]]:
    return [read_line(line) for line in lines]


async def _portions(door: Door, http: HttpRequest) -> AsyncIterator[list[bytes | None]]:
    """The lines of the body, a few hundred at a time; None for one that is too long."""
    lines = Lines(door.ctx.settings.request_bytes_max + ENVELOPE_BYTES_MAX)
    part = door.ctx.database.turns.part
    portion: list[bytes | None] = []
    size = 0
    async for chunk in reading.text_chunks(http):
        for line in lines.feed(chunk):
            portion.append(line)
            size += len(line or b"")
            if len(portion) >= part(LINES_AT_ONCE) or size >= part(BYTES_AT_ONCE):
                yield portion
                portion, size = [], 0
    portion.extend(lines.end())
    if portion:
        yield portion
