"""The bulk door: many calls in one POST, a line each, in and out as streams.

Lines are stored as they arrive, one commit for a few hundred of them, while the next ones are
read; a caller that sends faster than the database stores is held back by TCP. What each line is to
be answered is noted on a roll, which goes to disk when it grows. The answers are written when the
input has been read to its end, in its order, from what the database then says. So memory is flat
however many lines there are, and a caller that reads nothing before it has sent everything gets
through.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import IO

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from openaibatching.server import bulk_lines, errors, incoming, replies, store
from openaibatching.server.accept import OUTAGE_S_MAX
from openaibatching.server.bulk_lines import MEDIA_TYPES, Entry
from openaibatching.server.config import Settings
from openaibatching.server.door import Door
from openaibatching.server.lines import Lines
from openaibatching.server.model import Call, Request

LINES_AT_ONCE = 256
BYTES_AT_ONCE = 4_000_000
ENVELOPE_BYTES_MAX = 65_536
"""What a line may have beside its body: custom_id, url, idempotency_key."""
ROLL_BYTES_IN_MEMORY = 1_000_000


async def post_requests(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests: batch input lines in, batch output lines out."""
    try:
        tenant = incoming.tenant(http, door.keyring)
        incoming.check_media(http, *MEDIA_TYPES)
    except errors.Refusal:
        await incoming.drain(http)
        raise
    wait = incoming.wait_s(http, door.ctx.settings.wait_s_max)
    roll = Roll()
    try:
        await _take_in(door, http, tenant, roll)
    except BaseException:
        roll.close()
        raise
    headers = {} if wait is None else {"Preference-Applied": "wait"}
    return StreamingResponse(
        _give_out(door, roll, wait or 0.0), headers=headers, media_type=MEDIA_TYPES[0]
    )


class Roll:
    """One entry an input line, in order: written first, then read. Large ones are on disk."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(ROLL_BYTES_IN_MEMORY)  # noqa: SIM115
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Entry])

    def write(self, entries: list[Entry]) -> None:
        """Add these."""
        data = self._encoder.encode(entries)
        self._file.write(len(data).to_bytes(4) + data)

    def read(self) -> Iterator[list[Entry]]:
        """All of them, from the start, as many at a time as they were written."""
        self._file.seek(0)
        while head := self._file.read(4):
            yield self._decoder.decode(self._file.read(int.from_bytes(head)))

    def close(self) -> None:
        self._file.close()


# ----- in -----


async def _take_in(door: Door, http: HttpRequest, tenant: str, roll: Roll) -> None:
    """Store every call of the body, and note on the roll what each line is to be answered.

    Raises DatabaseUnavailable when the body has come to its end, because a caller that is still
    sending does not read; what was stored by then stays so.
    """
    settings = door.ctx.settings
    storing: asyncio.Task[object] = asyncio.create_task(asyncio.sleep(0))
    failure: errors.Refusal | None = None
    try:
        async for lines in _portions(http, settings.request_bytes_max):
            if failure is not None:
                continue
            # In a thread: no other caller should wait for these milliseconds.
            read = await asyncio.to_thread(_understand, settings, tenant, lines)
            try:
                await storing  # one commit at a time; meanwhile the next lines were read
            except errors.Refusal as error:
                failure = error
                continue
            roll.write([entry for entry, _ in read])
            calls = [call for _, call in read if call is not None]
            storing = asyncio.create_task(door.acceptor.store(calls))
    finally:
        # What was read is stored, even when the caller has gone.
        await asyncio.wait((storing,))
    if failure is not None:
        raise failure
    storing.result()


def _understand(
    settings: Settings, tenant: str, lines: Sequence[bytes | None]
) -> list[tuple[Entry, Call | None]]:
    return [bulk_lines.read_line(settings, tenant, line) for line in lines]


async def _portions(http: HttpRequest, body_bytes_max: int) -> AsyncIterator[list[bytes | None]]:
    """The lines of the body, a few hundred at a time; None for one that is too long."""
    lines = Lines(body_bytes_max + ENVELOPE_BYTES_MAX)
    portion: list[bytes | None] = []
    size = 0
    async for chunk in incoming.chunks(http):
        for line in lines.feed(chunk):
            portion.append(line)
            size += len(line or b"")
            if len(portion) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
                yield portion
                portion, size = [], 0
    portion.extend(lines.end())
    if portion:
        yield portion


# ----- out -----


async def _give_out(door: Door, roll: Roll, wait: float) -> AsyncIterator[bytes]:
    """The output lines, a portion at a time, each when it has finished or time is up."""
    deadline = asyncio.get_running_loop().time() + wait
    outage_s = OUTAGE_S_MAX
    try:
        for entries in roll.read():
            ids = list({entry.id for entry in entries if entry.id is not None})
            await door.deliverer.until_finished(ids, deadline)
            try:
                found = await door.read(partial(store.read_requests, ids=ids), outage_s)
            except errors.DatabaseUnavailable as error:
                # As a single call would hear it: what is accepted stays so, and may be asked for
                # again. It is waited for once, not with each portion.
                outage_s = 0.0
                yield b"".join(bulk_lines.refused(entry, error) for entry in entries)
                continue
            by_id = {request.id: request for request in found}
            for entry in entries:
                yield await _answer(door, entry, by_id)
    finally:
        roll.close()


async def _answer(door: Door, entry: Entry, found: dict[uuid.UUID, Request]) -> bytes:
    if entry.id is None:
        return bulk_lines.refused(entry)
    request = found.get(entry.id)
    if request is not None and request.answer_left_out:
        try:
            request = await door.read(partial(store.read_request, id_=request.id))
        except errors.DatabaseUnavailable as error:
            return bulk_lines.refused(entry, error)
    if request is None:
        return bulk_lines.refused(entry, errors.NotFound("The request was deleted meanwhile."))
    if request.body_id != entry.body_id:
        return bulk_lines.refused(entry, errors.IdempotencyKeyReused())
    reply = replies.reply(request, door.ctx.settings.batch_poll_s)
    return bulk_lines.answered(entry, request.id, reply)
