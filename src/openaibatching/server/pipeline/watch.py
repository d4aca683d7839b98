"""Watch: look at submitted batches until OpenAI has ended them.

A look that fails says nothing about the batch: it stays as it is and is looked at later.
"""

from __future__ import annotations

from openaibatching.server.domain.batch import OVERDUE, Batch
from openaibatching.server.errors import UpstreamDenied, UpstreamError
from openaibatching.server.pipeline import duplicates, model_limits
from openaibatching.server.pipeline.backoff import backoff_s, jittered
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.held_batch import HeldBatch
from openaibatching.server.providers.openai.client import TERMINAL, UpstreamBatch
from openaibatching.server.telemetry import counters, logs

log = logs.get()

GROWTH, GROWTH_MAX = 1.3, 5.0
_VALIDATING = (None, "validating")


def poll_wait_s(poll_s: float, looks: int) -> float:
    """Seconds until the next look: growing from `poll_s` to 5 times that, with jitter."""
    return jittered(poll_s * min(GROWTH_MAX, GROWTH ** min(looks, 50)))


async def watch_one(ctx: Context) -> bool:
    """Look at the batch whose turn it is; whether there was one."""
    async with ctx.leases.take("submitted") as held:
        if held is None:
            return False
        batch = held.row
        assert batch.upstream_id is not None
        try:
            if duplicates.possible(batch):
                await duplicates.stop(ctx, batch)
            seen = await _look(ctx, batch, batch.upstream_id)
        except UpstreamError as error:
            poll_s = ctx.settings.batch_poll_s
            wait_s = backoff_s(batch.tries, first=poll_s, most=poll_s * GROWTH_MAX)
            log.warning("poll_failed", **batch.names, **logs.said(error), wait_s=wait_s)
            await held.release(wait_s, logs.trouble(error))
            return True
        await _note(ctx, held, seen)
        if seen.status in TERMINAL and batch.submitted_at is not None:
            took = batch.now - batch.submitted_at
            counters.BATCH_DURATION.labels(seen.status).observe(took.total_seconds())
    return True


async def _note(ctx: Context, held: HeldBatch, seen: UpstreamBatch) -> None:
    """Write down what was seen of the batch, and give it back."""
    batch = held.row
    async with held.transaction() as writes:
        conn = writes.conn
        if batch.upstream_status in _VALIDATING and seen.status not in (*_VALIDATING, "failed"):
            await model_limits.note_accepted(conn, batch.model, ctx.now())
            limit = await model_limits.raise_limit(conn, batch, ctx.now())
            if limit is not None:
                log.info("limit_raised", model=batch.model, tokens=limit)
        if seen.status == "failed" and not (seen.output_file_id or seen.error_file_id):
            log.info("batch_ended", **batch.names, status=seen.status)
            await writes.refuse(seen.errors)
        elif seen.status in TERMINAL:
            log.info("batch_ended", **batch.names, status=seen.status)
            await writes.end(seen)
        else:
            poll_s = poll_wait_s(ctx.settings.batch_poll_s, batch.tries)
            await writes.note_status(seen, poll_s)


async def _look(ctx: Context, batch: Batch, upstream_id: str) -> UpstreamBatch:
    """The batch as OpenAI has it. One that is overdue is asked to stop, so that it ends at last
    with what it has, and so is one whose end a caller wished. An overdue one that OpenAI no longer
    knows counts as expired, with the counts that were last seen of it."""
    overdue = batch.since_submitted > OVERDUE
    try:
        seen = await ctx.upstream.retrieve(upstream_id)
    except UpstreamDenied as error:
        # Before that it may be a wrong key or project, which somebody mends.
        if error.status != 404 or not overdue:
            raise
        listed = await ctx.upstream.find_batches(batch.id, batch.created_at)
        if seen_there := next((other for other in listed if other.id == upstream_id), None):
            return seen_there
        log.error("batch_vanished", **batch.names)
        # Its last counts stay: what they say was executed is not bought again.
        counts = batch.upstream_completed, batch.upstream_failed
        return UpstreamBatch(upstream_id, "expired", None, None, None, *counts)
    wished = batch.cancel_wished_at is not None
    if (overdue or wished) and seen.status not in (*TERMINAL, "cancelling"):
        if wished:
            log.info("batch_called_off", **batch.names, status=seen.status)
        else:
            log.warning("batch_overdue", **batch.names, status=seen.status)
        await ctx.upstream.cancel(upstream_id)
    return seen
