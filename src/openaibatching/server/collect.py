"""Collect: the answers of an ended batch reach their requests, and its books are balanced."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from openaibatching.server import journal, results, settle, store
from openaibatching.server.context import Context, backoff_s
from openaibatching.server.errors import UpstreamDenied, UpstreamError
from openaibatching.server.lines import Lines
from openaibatching.server.model import Batch, Unanswered

log = journal.get()

RESULTS_AT_ONCE = 2000
RESULT_BYTES_AT_ONCE = 1_000_000
"""They are in memory more than once."""
RESULT_LINE_BYTES_MAX = 512_000_000
"""OpenAI's largest file; a longer line cannot be one."""
DOWNLOADS_MAX = 3
FILE_GONE_TRIES = 20


async def collect_one(ctx: Context) -> bool:
    """Collect at most one ended batch; whether there was one."""
    async with ctx.lease(("ended",)) as batch:
        if batch is None:
            return False
        try:
            broken = await _read_files(ctx, batch)
        except UpstreamError as error:
            poll_s = ctx.settings.batch_poll_s
            wait_s = backoff_s(batch.tries, first=min(1.0, poll_s), most=min(300.0, poll_s * 20))
            wait_s = error.retry_after or wait_s
            log.warning("download_failed", **batch.names, **journal.said(error), wait_s=wait_s)
            await ctx.postpone(batch, wait_s, journal.trouble(error))
            return True
        await _balance(ctx, batch, broken)
    return True


# ----- answers -----


async def _read_files(ctx: Context, batch: Batch) -> int:
    """Store what both files tell; how many lines were broken."""
    broken = 0
    for file_id in (batch.output_file_id, batch.error_file_id):
        if file_id:
            try:
                broken += await _read_file(ctx, batch, file_id)
            except UpstreamDenied as error:
                # A file that OpenAI names but does not have: seen for a while after the end, or
                # with a key of another project. Its answers are paid for, so patience is cheap.
                if error.status != 404 or batch.tries < FILE_GONE_TRIES:
                    raise
                await _note(ctx, batch, f"file {file_id} is not there")
    return broken


async def _read_file(ctx: Context, batch: Batch, file_id: str) -> int:
    seen = _Seen()
    storing: asyncio.Task[None] | None = None
    try:
        async with aclosing(_outcomes(ctx, batch, file_id, seen)) as chunks:
            async for chunk in chunks:
                if storing is not None:
                    await storing
                # While the database stores it, the next ones are read.
                storing = asyncio.create_task(_store(ctx, batch, chunk))
        if storing is not None:
            await storing
    finally:
        if storing is not None:  # what was paid for is stored, whatever else went wrong
            await asyncio.gather(storing, return_exceptions=True)
    if seen.unknown:
        note = f"{seen.unknown} lines in {file_id} belong to no request of ours"
        await _note(ctx, batch, note)
    return seen.broken


@dataclass
class _Seen:
    """Lines of a file that are nobody's outcome."""

    broken: int = 0
    unknown: int = 0


async def _outcomes(
    ctx: Context, batch: Batch, file_id: str, seen: _Seen
) -> AsyncGenerator[list[results.Outcome], None]:
    """What the file tells, as many at a time as one statement stores."""
    lines = Lines(RESULT_LINE_BYTES_MAX)
    part = ctx.database.turns.part
    chunk: list[results.Outcome] = []
    size = 0

    def take(line: bytes | None) -> None:
        nonlocal size
        try:
            outcome = results.read_line(line or b"", batch.model, ctx.prices)
        except results.BrokenLine as error:
            seen.broken += 1
            if seen.broken == 1:  # one is enough to see what is wrong; the count comes later
                log.warning("line_broken", **batch.names, file=file_id, detail=str(error))
            return
        if outcome is None:
            seen.unknown += 1
        else:
            chunk.append(outcome)
            size += len(outcome.answer)

    async with aclosing(ctx.upstream.download(file_id)) as stream:
        async for data in stream:
            for line in lines.feed(data):
                take(line)
            if len(chunk) >= part(RESULTS_AT_ONCE) or size >= part(RESULT_BYTES_AT_ONCE):
                yield chunk
                chunk, size = [], 0
        for line in lines.end():
            take(line)
    yield chunk


async def _store(ctx: Context, batch: Batch, outcomes: Sequence[results.Outcome]) -> None:
    # The first line of a request wins, but an answer wins over a failure: it is paid for. A
    # second line in a later chunk finds the request finished.
    first: dict[uuid.UUID, results.Outcome] = {}
    for outcome in outcomes:
        if outcome.id not in first or (outcome.completed and not first[outcome.id].completed):
            first[outcome.id] = outcome
    if not first:
        return
    async with ctx.database.turns.take(), ctx.database.transaction() as conn:
        owed = await store.read_attempts(conn, batch, list(first))
        rows = [
            results.settle(
                outcome,
                owed[outcome.id].attempts,
                ctx.settings.batch_attempts_max,
                owed[outcome.id].status_code,
            )
            for outcome in first.values()
            if outcome.id in owed
        ]
        if rows:
            tenants = {sent.id: sent.tenant for sent in owed.values()}
            await settle.finish(ctx, conn, batch, rows, tenants)
    await settle.trace(ctx, rows)


async def _balance(ctx: Context, batch: Batch, broken: int) -> None:
    """What never came goes again, or fails; then the batch is done."""
    async with ctx.database.transaction() as conn:
        owed = await store.read_unanswered(conn, batch)
        if owed and batch.downloads + 1 < DOWNLOADS_MAX:
            # The answers are paid for: a download may have been cut short unseen, so reading
            # again comes before sending again.
            wait_s = backoff_s(batch.downloads)
            log.warning(
                "answers_missing", **batch.names, missing=len(owed), broken=broken, wait_s=wait_s
            )
            await store.move_batch(conn, "retry_download", ctx.server, batch)
            trouble = f"OpenAI's files have no line for {len(owed)} requests"
            await store.release_batch(conn, ctx.server, batch, wait_s, ctx.now(), trouble)
            return
        rows = [
            results.settle(
                _silence(batch, request),
                request.attempts,
                ctx.settings.batch_attempts_max,
                request.status_code,
            )
            for request in owed
        ]
        if rows:
            log.warning("answers_lost", **batch.names, missing=len(rows))
            await store.note_event(conn, batch, f"{len(rows)} requests without a line")
            await settle.finish(ctx, conn, batch, rows, {r.id: r.tenant for r in owed})
        books = await settle.close_books(ctx, conn, batch)
    await settle.trace(ctx, rows)
    settle.report(batch, books)


def _silence(batch: Batch, request: Unanswered) -> results.Outcome:
    if batch.upstream_status in ("expired", "cancelled"):
        return results.expired(request.id)
    return results.missing(request.id)


async def _note(ctx: Context, batch: Batch, note: str) -> None:
    log.warning("result_odd", **batch.names, detail=note)
    async with ctx.database.transaction() as conn:
        await store.note_event(conn, batch, note)
