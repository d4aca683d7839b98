"""Clean up: what a collected batch left at OpenAI is deleted, and the batch is closed."""

from __future__ import annotations

from collections.abc import Sequence

from openaibatching.server.domain.batch import Batch
from openaibatching.server.domain.tokens import NO_TOKENS
from openaibatching.server.errors import UpstreamError
from openaibatching.server.pipeline import duplicates, settle
from openaibatching.server.pipeline.backoff import backoff_s
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai.client import TERMINAL, UpstreamBatch
from openaibatching.server.providers.openai.input_lines import file_name
from openaibatching.server.telemetry import logs

log = logs.get()

DOUBLE_ENDS_S = 60.0


async def clean_one(ctx: Context) -> bool:
    """Delete the files of at most one collected batch upstream; whether there was one."""
    async with ctx.leases.take("collected") as held:
        if held is None:
            return False
        batch = held.row
        try:
            others = await duplicates.stop(ctx, batch) if duplicates.possible(batch) else []
            if any(other.status not in TERMINAL for other in others):
                await held.release(DOUBLE_ENDS_S)
                return True
            for file_id in await _files(ctx, batch, others):
                await ctx.upstream.delete_file(file_id)
                async with held.transaction() as writes:
                    await writes.forget_file(file_id)
        except UpstreamError as error:
            wait_s = error.retry_after or backoff_s(batch.tries)
            log.warning("cleanup_failed", **batch.names, **logs.said(error), wait_s=wait_s)
            await held.release(wait_s, logs.trouble(error))
            return True
        async with held.transaction() as writes:
            await writes.close()
            for other in others:  # it was paid, too
                await settle.charge(ctx, writes.conn, batch, other.tokens or NO_TOKENS)
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
