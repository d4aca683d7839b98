"""The bulk door: many calls in one POST, a line each, in and out as streams.

Lines are stored as they arrive, one commit for a few hundred of them, while the next ones are
read; a caller that sends faster than the database stores is held back by TCP. What each line is to
be answered is noted on a roll, which goes to disk when it grows. The answers are written when the
input has been read to its end, from what the database then says (bulk_out.py). So memory is flat
however many lines there are, and a caller that reads nothing before it has sent everything gets
through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from openaibatching.server import bulk_lines, bulk_out, errors, incoming, replies
from openaibatching.server.bulk_lines import MEDIA_TYPES, Entry
from openaibatching.server.config import Settings
from openaibatching.server.door import Door
from openaibatching.server.lines import Lines
from openaibatching.server.model import Call
from openaibatching.server.roll import Roll

LINES_AT_ONCE = 256
BYTES_AT_ONCE = 4_000_000
ENVELOPE_BYTES_MAX = 65_536
"""What a line may have beside its body: custom_id, url, idempotency_key."""


async def post_requests(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests: batch input lines in, batch output lines out."""
    try:
        tenant = incoming.tenant(http, door.keyring)
        incoming.check_media(http, *MEDIA_TYPES)
    except errors.Refusal:
        await incoming.drain(http)
        raise
    wait = incoming.wait_s(http, door.ctx.settings.wait_s_max)
    unordered = wait is not None and incoming.preference(http, "order") == "finished"
    roll = Roll()
    try:
        await _take_in(door, http, tenant, roll)
    except BaseException:
        roll.close()
        raise
    headers = {"Retry-After": replies.retry_after(door.ctx.settings.batch_poll_s)}
    if wait is not None:
        headers["Preference-Applied"] = "wait, order=finished" if unordered else "wait"
    give_out = bulk_out.as_they_finish if unordered else bulk_out.in_order
    return StreamingResponse(
        give_out(door, roll, wait or 0.0), headers=headers, media_type=MEDIA_TYPES[0]
    )


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
