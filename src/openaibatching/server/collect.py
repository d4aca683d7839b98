"""Collect: an ended batch's answers reach their requests, its books are balanced, and what it
left upstream is deleted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta

from openaibatching.server import (
    doubles,
    journal,
    model_limits,
    money,
    receipts,
    refusal,
    reports,
    results,
    store,
)
from openaibatching.server.context import Context, backoff_s
from openaibatching.server.db import Connection
from openaibatching.server.errors import DatabaseUnavailable, UpstreamDenied, UpstreamError
from openaibatching.server.lines import Lines
from openaibatching.server.model import (
    NO_TOKENS,
    Batch,
    Books,
    Result,
    Tokens,
    Unanswered,
    file_name,
)
from openaibatching.server.upstream import TERMINAL, UpstreamBatch

log = journal.get()

RESULTS_AT_ONCE = 2000
RESULT_BYTES_AT_ONCE = 1_000_000
"""They are in memory more than once."""
RESULT_LINE_BYTES_MAX = 512_000_000
"""OpenAI's largest file; a longer line cannot be one."""
DOWNLOADS_MAX = 3
FILE_GONE_TRIES = 20
DOUBLE_ENDS_S = 60.0
HOLD_S_MIN = 1.0
ACCOUNT_HOLDS = 10
WAITING_MAX = timedelta(hours=25)


async def collect_one(ctx: Context) -> bool:
    """Collect at most one ended batch; whether there was one."""
    async with ctx.lease(("ended",)) as batch:
        if batch is None:
            return False
        if batch.upstream_status == "failed" and not (batch.output_file_id or batch.error_file_id):
            await _resolve_refusal(ctx, batch)
            return True
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
            outcome = results.read_line(line or b"", batch.model)
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
            await _finish(ctx, conn, batch, rows, tenants)
    await _trace(ctx, rows)


async def _finish(
    ctx: Context,
    conn: Connection,
    batch: Batch,
    rows: Sequence[Result],
    tenants: Mapping[uuid.UUID, str],
    *,
    refund: bool = False,
) -> None:
    """Store these results, what they cost, and what failed: all of it or nothing."""
    await store.store_results(conn, ctx.server, batch, rows, refund=refund, now=ctx.now())
    await money.add_spending(conn, batch, receipts.spent(rows, tenants), ctx.now())
    await money.add_failures(conn, batch, receipts.failed(rows, tenants), ctx.now())


async def _trace(ctx: Context, rows: Sequence[Result]) -> None:
    """Make the spans of those that are traced. Their results are committed: nothing may fail."""
    ended = [row for row in rows if row.state != "queued"]
    if ctx.tracing is None or not ended:
        return
    with suppress(DatabaseUnavailable):
        async with ctx.database.statement() as conn:
            traced = await reports.read_traced(conn, [row.id for row in ended])
        await ctx.tracing.finished(traced, ended)


async def _close_books(ctx: Context, conn: Connection, batch: Batch) -> Books:
    """The batch is done; what OpenAI charged for answers that nobody got is spent as well."""
    books = await store.finish_collect(conn, ctx.server, batch, ctx.now())
    await _charge(ctx, conn, batch, books.unanswered)
    return books


async def _charge(ctx: Context, conn: Connection, batch: Batch, tokens: Tokens) -> None:
    if tokens.input > 0 or tokens.output > 0:
        shares = await money.read_shares(conn, batch)
        lost = receipts.lost(batch.model, tokens, shares)
        await money.add_spending(conn, batch, lost, ctx.now())


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
            await _finish(ctx, conn, batch, rows, {r.id: r.tenant for r in owed})
        books = await _close_books(ctx, conn, batch)
    await _trace(ctx, rows)
    _tell(batch, books)


def _silence(batch: Batch, request: Unanswered) -> results.Outcome:
    if batch.upstream_status in ("expired", "cancelled"):
        return results.expired(request.id)
    return results.missing(request.id)


async def _note(ctx: Context, batch: Batch, note: str) -> None:
    log.warning("result_odd", **batch.names, detail=note)
    async with ctx.database.transaction() as conn:
        await store.note_event(conn, batch, note)


# ----- refusals -----


async def _resolve_refusal(ctx: Context, batch: Batch) -> None:
    """OpenAI took none of it: the culprits fail, and the rest goes again without an attempt."""
    async with ctx.database.transaction() as conn:
        owed = await store.read_unanswered(conn, batch)
        verdict = refusal.judge(batch.errors, len(owed))
        if isinstance(verdict, refusal.TokenLimit):
            verdict = await _learn(ctx, conn, batch, owed, verdict)
        log.warning(
            "batch_refused",
            **batch.names,
            verdict=type(verdict).__name__.lower(),
            requests=len(owed),
            codes=refusal.codes(batch.errors),
        )
        rows: list[Result] = []
        if isinstance(verdict, refusal.Halve):
            await store.split_batch(conn, ctx.server, batch, owed)
            log.warning("batch_halved", **batch.names, requests=len(owed))
        else:
            reasons = verdict.reasons if isinstance(verdict, refusal.Culprits) else {}
            rows = [_after_refusal(r, reasons.get(line)) for line, r in enumerate(owed)]
            await _finish(ctx, conn, batch, rows, {r.id: r.tenant for r in owed}, refund=True)
        if isinstance(verdict, refusal.Again):
            hold_s = _hold_s(ctx) * (ACCOUNT_HOLDS if verdict.account else 1)
            why = ", ".join(refusal.codes(batch.errors)) or None
            await model_limits.hold_model(conn, batch.model, hold_s, why, ctx.now())
            log.warning("model_held", model=batch.model, wait_s=hold_s)
        books = await _close_books(ctx, conn, batch)
    await _trace(ctx, rows)
    _tell(batch, books)


def _tell(batch: Batch, books: Books) -> None:
    counts = {"completed": books.completed, "failed": books.failed, "requeued": books.requeued}
    log.info("batch_collected", **batch.names, requests=batch.requests, **counts)
    if books.requeued:
        log.info("requests_requeued", **batch.names, requests=books.requeued)


async def _learn(
    ctx: Context,
    conn: Connection,
    batch: Batch,
    owed: Sequence[Unanswered],
    verdict: refusal.TokenLimit,
) -> refusal.Verdict:
    """Keep the limit, and see to it that no request waits for ever behind it.

    OpenAI counts in its tokens and we in estimates. A refusal while none of the model's other
    batches is upstream says that the estimate is too low (or that somebody else uses the
    account), so a limit of our own goes below the told one until a batch fits; it grows again.
    """
    hold_s = _hold_s(ctx)
    alone = await store.enqueued_tokens(conn, batch.model) == 0
    if alone and len(owed) == 1 and _never_fits(batch, owed[0], verdict.tokens):
        return refusal.judge_alone(batch.errors)
    log.warning("limit_reached", **batch.names, told=verdict.tokens, wait_s=hold_s)
    await model_limits.hold_model(conn, batch.model, hold_s, None, ctx.now())
    if verdict.tokens is not None:
        await model_limits.learn_limit(conn, batch.model, verdict.tokens, ctx.now())
        log.info("limit_learned", model=batch.model, tokens=verdict.tokens)
    if alone:
        if len(owed) == 1:
            await store.defer_request(conn, owed[0].id, ctx.now())
        if verdict.tokens is None or batch.tokens <= verdict.tokens:
            lowered = max(1, batch.tokens // 2)
            await model_limits.lower_limit(conn, batch.model, lowered, ctx.now())
            log.warning("limit_lowered", model=batch.model, tokens=lowered)
    return verdict


def _never_fits(batch: Batch, request: Unanswered, limit: int | None) -> bool:
    """Alone, and still too large; or alone and refused for longer than any batch can take."""
    too_large = limit is not None and request.tokens > limit
    return too_large or batch.now - request.created_at > WAITING_MAX


def _hold_s(ctx: Context) -> float:
    return max(HOLD_S_MIN, ctx.settings.batch_poll_s)


def _after_refusal(request: Unanswered, reason: refusal.Reason | None) -> Result:
    if reason is None:
        return Result(request.id, "queued", None, None)
    outcome = results.refused(request.id, reason.code, reason.message, reason.param)
    return Result(request.id, "failed", outcome.status_code, outcome.answer, code=outcome.code)


# ----- what is left upstream -----


async def clean_one(ctx: Context) -> bool:
    """Delete the files of at most one collected batch upstream; whether there was one."""
    async with ctx.lease(("collected",)) as batch:
        if batch is None:
            return False
        try:
            others = await doubles.stop(ctx, batch) if batch.creates > 1 else []
            if any(other.status not in TERMINAL for other in others):
                await ctx.postpone(batch, DOUBLE_ENDS_S)
                return True
            for file_id in await _files(ctx, batch, others):
                await ctx.upstream.delete_file(file_id)
                async with ctx.database.transaction() as conn:
                    await store.move_batch(conn, "forget_file", ctx.server, batch, file_id=file_id)
        except UpstreamError as error:
            wait_s = error.retry_after or backoff_s(batch.tries)
            log.warning("cleanup_failed", **batch.names, **journal.said(error), wait_s=wait_s)
            await ctx.postpone(batch, wait_s, journal.trouble(error))
            return True
        async with ctx.database.transaction() as conn:
            await store.move_batch(conn, "close_batch", ctx.server, batch, now=ctx.now())
            for other in others:  # it was paid, too
                await _charge(ctx, conn, batch, other.tokens or NO_TOKENS)
        log.info("batch_closed", **batch.names)
    return True


async def _files(ctx: Context, batch: Batch, others: Sequence[UpstreamBatch]) -> list[str]:
    """Every file of the batch and its doubles, with those of uploads that acted unseen."""
    known = [batch.output_file_id, batch.error_file_id, batch.input_file_id]
    for other in others:
        known += [other.output_file_id, other.error_file_id]
    stray: list[str] = []
    if batch.uploads > 1 or batch.input_file_id is None:
        stray = await ctx.upstream.find_files(file_name(batch.id), batch.created_at)
    return list(dict.fromkeys([*(f for f in known if f), *stray]))
