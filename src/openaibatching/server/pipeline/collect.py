"""Collect: the answers of an ended batch reach their requests, and its books are balanced."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.batch import OVERDUE, Batch, Result, Unanswered
from openaibatching.server.domain.jsonl import Lines
from openaibatching.server.errors import UpstreamDenied, UpstreamError
from openaibatching.server.pipeline import (
    attempts,
    evidence,
    model_limits,
    settle,
    store,
    token_limits,
)
from openaibatching.server.pipeline.backoff import backoff_s
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.evidence import Read, Silence, Told
from openaibatching.server.pipeline.held_batch import HeldBatch
from openaibatching.server.pipeline.store import Sent
from openaibatching.server.providers.openai import output_lines
from openaibatching.server.telemetry import logs

log = logs.get()

RESULTS_AT_ONCE = 2000
RESULT_BYTES_AT_ONCE = 1_000_000
"""They are in memory more than once."""
RESULT_LINE_BYTES_MAX = 512_000_000
"""OpenAI's largest file; a longer line cannot be one."""
FILE_GONE_TRIES = 20
READ_AGAIN_S_MAX = 1800.0


async def collect_one(ctx: Context) -> bool:
    """Collect at most one ended batch; whether there was one."""
    async with ctx.leases.take("ended") as held:
        if held is None:
            return False
        batch = held.row
        try:
            if batch.downloads or batch.tries:
                await _look_again(ctx, held)
            read = await _read_files(ctx, held)
        except UpstreamError as error:
            poll_s = ctx.settings.batch_poll_s
            wait_s = backoff_s(batch.tries, first=min(1.0, poll_s), most=min(300.0, poll_s * 20))
            wait_s = error.retry_after or wait_s
            log.warning("download_failed", **batch.names, **logs.said(error), wait_s=wait_s)
            await held.release(wait_s, logs.trouble(error))
            return True
        await _balance(ctx, held, read)
    return True


async def _read_files(ctx: Context, held: HeldBatch) -> Read:
    """Store what both files tell; what was in them."""
    batch = held.row
    read = Read()
    for file_id in (batch.output_file_id, batch.error_file_id):
        if file_id:
            try:
                await _read_file(ctx, held, file_id, read)
            except UpstreamDenied as error:
                # A file that OpenAI names but does not have: seen for a while after the end, or
                # with a key of another project. Its answers are paid for, so patience is cheap.
                if error.status != 404 or batch.tries < FILE_GONE_TRIES:
                    raise
                read.gone = True
                await _note(ctx, batch, f"file {file_id} is not there")
    return read


async def _read_file(ctx: Context, held: HeldBatch, file_id: str, read: Read) -> None:
    unknown = read.unknown
    storing: asyncio.Task[None] | None = None
    try:
        async with aclosing(_outcomes(ctx, held.row, file_id, read)) as chunks:
            async for chunk in chunks:
                if storing is not None:
                    await storing
                # While the database stores it, the next ones are read.
                storing = asyncio.create_task(_store(ctx, held, chunk, read))
        if storing is not None:
            await storing
    finally:
        if storing is not None:  # what was paid for is stored, whatever else went wrong
            await asyncio.gather(storing, return_exceptions=True)
    if read.unknown > unknown:
        note = f"{read.unknown - unknown} lines in {file_id} belong to no request of ours"
        await _note(ctx, held.row, note)


async def _outcomes(
    ctx: Context, batch: Batch, file_id: str, read: Read
) -> AsyncGenerator[list[output_lines.Outcome], None]:
    """What the file tells, as many at a time as one statement stores."""
    lines = Lines(RESULT_LINE_BYTES_MAX)
    part = ctx.database.turns.part
    chunk: list[output_lines.Outcome] = []
    size, broken = 0, 0

    def take(line: bytes | None) -> None:
        nonlocal size, broken
        try:
            outcome = output_lines.read_line(line or b"", batch.model, ctx.prices)
        except output_lines.BrokenLine as error:
            broken += 1
            if broken == 1:  # one is enough to see what is wrong; the count comes later
                log.warning("line_broken", **batch.names, file=file_id, detail=str(error))
            if (owner := output_lines.owner(line or b"")) is None:
                read.broken += 1
            else:
                read.executed.add(owner)
            return
        if outcome is None:
            read.unknown += 1
            return
        (read.executed if outcome.executed else read.idle).add(outcome.id)
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


async def _store(
    ctx: Context, held: HeldBatch, outcomes: Sequence[output_lines.Outcome], read: Read
) -> None:
    # The first line of a request wins, but an answer wins over a failure: it is paid for. A
    # second line in a later chunk finds the request finished.
    first: dict[uuid.UUID, output_lines.Outcome] = {}
    for outcome in outcomes:
        if outcome.id not in first or (outcome.completed and not first[outcome.id].completed):
            first[outcome.id] = outcome
    if not first:
        return
    batch = held.row
    async with ctx.database.turns.take(), held.transaction() as writes:
        conn = writes.conn
        owed = await store.read_attempts(conn, batch, list(first))
        rows = [
            _row(ctx, batch, outcome, owed[outcome.id])
            for outcome in first.values()
            if outcome.id in owed
        ]
        if rows:
            tenants = {sent.id: sent.tenant for sent in owed.values()}
            await settle.finish(ctx, writes, rows, tenants)
        if account := next((row for row in rows if row.refund and row.state == "queued"), None):
            read.account = True
            await _hold(ctx, conn, batch, account)
    await settle.trace(ctx, rows)


def _row(
    ctx: Context, batch: Batch, outcome: output_lines.Outcome, sent: Sent | Unanswered
) -> Result:
    """What becomes of a request by this outcome of its sending."""
    if outcome.code == "batch_cancelled":
        if _overdue(batch):  # it was us who cancelled it
            outcome = output_lines.expired(outcome.id)
        elif not batch.upstream_completed + batch.upstream_failed:  # it had not begun
            row = attempts.settle(outcome, sent.attempts, sent.attempts, None)
            return replace(row, refund=True)
    settings = ctx.settings
    return attempts.settle(
        outcome,
        sent.attempts,
        settings.batch_attempts_max,
        sent.status_code,
        settings.batch_poll_s,
    )


def _overdue(batch: Batch) -> bool:
    return batch.since_submitted > OVERDUE


async def _hold(ctx: Context, conn: Connection, batch: Batch, row: Result) -> None:
    """The account is out of credit or locked: hold all until one request has been answered."""
    # A refused key shows at the next upload; only credit has to be asked for by a request.
    longer = 1 if row.status_code == 401 else token_limits.ACCOUNT_HOLDS
    hold_s, code = token_limits.hold_s(ctx) * longer, row.code
    log.warning("account_refused", **batch.names, code=code, wait_s=hold_s)
    await model_limits.hold_longer(conn, batch.model, hold_s, code, "answered", ctx.now())


async def _balance(ctx: Context, held: HeldBatch, read: Read) -> None:
    """What never came goes again, or fails; then the batch is done."""
    batch = held.row
    async with ctx.database.transaction() as conn:
        owed = await store.read_unanswered(conn, batch)
    silence = _judge(ctx, batch, read) if owed else Silence.SEND_AGAIN
    if silence is Silence.LOOK_AGAIN:
        await _read_again(held, read, owed)
        return
    async with held.transaction() as writes:
        conn = writes.conn
        rows = [_row(ctx, batch, _silence(batch, request, silence), request) for request in owed]
        if rows:
            log.warning("answers_lost", **batch.names, missing=len(rows), then=silence.value)
            await store.note_event(conn, batch, f"{len(rows)} requests without a line")
            await settle.finish(ctx, writes, rows, {r.id: r.tenant for r in owed})
        if silence is Silence.GIVE_UP and (read.unattributable or read.gone):
            files = " and ".join(f for f in (batch.output_file_id, batch.error_file_id) if f)
            await store.note_event(conn, batch, f"left at OpenAI, to be read by a person: {files}")
            await writes.keep_result_files()
        books = await settle.close_books(ctx, writes)
        if books.completed + books.failed and not read.account:
            await model_limits.note_answered(conn, batch.model)
    await settle.trace(ctx, rows)
    settle.report(batch, books)


def _told(batch: Batch) -> Told:
    executed = batch.upstream_completed + batch.upstream_failed
    return Told(batch.upstream_status or "", executed, batch.charged)


def _judge(ctx: Context, batch: Batch, read: Read) -> Silence:
    assert batch.ended_at is not None
    poll = timedelta(seconds=ctx.settings.batch_poll_s)
    since = batch.now - batch.ended_at
    return evidence.judge(_told(batch), read, batch.reads + 1, since, poll)


async def _read_again(held: HeldBatch, read: Read, owed: Sequence[Unanswered]) -> None:
    """Read the batch and its files again later: what is missing in them is paid for."""
    batch = held.row
    wait_s = backoff_s(batch.downloads, most=READ_AGAIN_S_MAX)
    log.warning(
        "answers_missing", **batch.names, missing=len(owed), broken=read.broken, wait_s=wait_s
    )
    problem = evidence.why(_told(batch), read, len(owed))
    async with held.transaction() as writes:
        await writes.read_again(whole=evidence.whole(_told(batch), read))
        await writes.release(wait_s, problem)


async def _look_again(ctx: Context, held: HeldBatch) -> None:
    """See the batch as OpenAI has it now: a file or its id may have come since, so no verdict rests
    on what was seen before the wait. Raises UpstreamError."""
    batch = held.row
    assert batch.upstream_id is not None
    try:
        seen = await ctx.upstream.retrieve(batch.upstream_id)
    except UpstreamDenied as error:
        if error.status != 404:
            raise
        return  # it vanished: what was seen of it stays
    # Usage that comes late is taken as long as no answer has been taken off it.
    settled = batch.completed + batch.failed + batch.requeued + batch.cancelled
    late = None if batch.charged or settled else seen.tokens
    known = replace(
        batch,
        output_file_id=seen.output_file_id or batch.output_file_id,
        error_file_id=seen.error_file_id or batch.error_file_id,
        upstream_completed=max(seen.completed, batch.upstream_completed),
        upstream_failed=max(seen.failed, batch.upstream_failed),
        charged=batch.charged or (late is not None and late.input + late.output > 0),
    )
    if known != batch:
        known = replace(known, reads=0)
    async with held.transaction() as writes:
        await writes.look_again(known, late)
    held.row = known


def _silence(batch: Batch, request: Unanswered, silence: Silence) -> output_lines.Outcome:
    if silence is Silence.GIVE_UP:
        return output_lines.lost(request.id)
    if batch.upstream_status == "cancelled":
        return output_lines.cancelled(request.id)
    if batch.upstream_status == "expired":
        return output_lines.expired(request.id)
    return output_lines.missing(request.id)


async def _note(ctx: Context, batch: Batch, note: str) -> None:
    log.warning("result_odd", **batch.names, detail=note)
    async with ctx.database.transaction() as conn:
        await store.note_event(conn, batch, note)
