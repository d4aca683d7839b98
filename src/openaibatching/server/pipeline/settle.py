"""Settle: results are stored, with what they cost and what failed; a batch's books are closed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress

from openaibatching.server.billing import receipts, spending
from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.batch import Batch, Result
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.errors import DatabaseUnavailable
from openaibatching.server.pipeline import model_limits, store
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.held_batch import BatchWrites, HeldBatch
from openaibatching.server.pipeline.store import Books
from openaibatching.server.telemetry import logs

log = logs.get()


async def finish(
    ctx: Context,
    writes: BatchWrites,
    rows: Sequence[Result],
    tenants: Mapping[uuid.UUID, str],
) -> None:
    """Store these results, what they cost, and what failed: all of it or nothing.

    Of a batch whose end a caller wished, what has no answer is cancelled and does not go again.
    """
    conn, batch = writes.conn, writes.row
    if batch.cancel_wished_at is not None:
        rows = [_called_off(row) for row in rows]
    await writes.store_results(rows)
    spent = receipts.spent(rows, tenants, ctx.settings.unpriced_usd_mtok)
    await spending.add_spending(conn, batch, spent, ctx.now())
    await spending.add_failures(conn, batch, receipts.failed(rows, tenants), ctx.now())
    await spending.add_share_counts(conn, batch, receipts.ended(rows, tenants))
    await model_limits.learn_rate(conn, batch, rows)


def _called_off(row: Result) -> Result:
    unanswered = row.state == "queued" or row.code == "batch_cancelled"
    return Result(row.id, "cancelled", None, None, refund=row.refund) if unanswered else row


async def call_off(ctx: Context, held: HeldBatch) -> None:
    """Cancel all requests of a batch whose end a caller wished before OpenAI had it."""
    async with held.transaction() as writes:
        owed = await store.read_unanswered(writes.conn, held.row)
        rows = [Result(request.id, "cancelled", None, None, refund=True) for request in owed]
        await finish(ctx, writes, rows, {r.id: r.tenant for r in owed})
        books = await close_books(ctx, writes)
    report(held.row, books)


async def trace(ctx: Context, rows: Sequence[Result]) -> None:
    """Make the spans of those that are traced. Their results are committed: nothing may fail."""
    ended = [row for row in rows if row.state != "queued"]
    if ctx.tracing is None or not ended:
        return
    with suppress(DatabaseUnavailable):
        async with ctx.database.statement() as conn:
            traced = await store.read_traced(conn, [row.id for row in ended])
        await ctx.tracing.finished(traced, ended)


async def close_books(ctx: Context, writes: BatchWrites) -> Books:
    """The batch is done; what OpenAI charged for answers that nobody got is spent as well."""
    books = await writes.finish_collect()
    await charge(ctx, writes.conn, writes.row, books.unanswered)
    return books


async def charge(ctx: Context, conn: Connection, batch: Batch, tokens: Tokens) -> None:
    if tokens.input > 0 or tokens.output > 0:
        shares = await spending.read_shares(conn, batch)
        usd = ctx.prices.lost_usd(batch.model, tokens)
        lost = receipts.lost(tokens, usd, shares, ctx.settings.unpriced_usd_mtok)
        await spending.add_spending(conn, batch, lost, ctx.now())


def report(batch: Batch, books: Books) -> None:
    counts = {"completed": books.completed, "failed": books.failed, "requeued": books.requeued,
              "cancelled": books.cancelled}  # fmt: skip
    log.info("batch_collected", **batch.names, requests=batch.requests, **counts)
    if books.requeued:
        log.info("requests_requeued", **batch.names, requests=books.requeued)
