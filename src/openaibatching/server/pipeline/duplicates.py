"""Doubles: other batches at OpenAI with our key, made by a create that acted after it was given up.

Only a create that acts later than BATCH_SETTLE_S can leave one. It costs money, so it is stopped as
soon as it is seen; and in the end its files are deleted, like all that is ours.
"""

from __future__ import annotations

from openaibatching.server.domain.batch import Batch
from openaibatching.server.errors import UpstreamError
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai.client import TERMINAL, UpstreamBatch
from openaibatching.server.telemetry import logs

log = logs.get()


def possible(batch: Batch) -> bool:
    """Whether more creates may have acted than the one that was adopted."""
    return batch.creates > (batch.upstream_id is not None)


async def stop(ctx: Context, batch: Batch) -> list[UpstreamBatch]:
    """Every double of the batch; those that still run are asked to stop. Raises UpstreamError."""
    found = await ctx.upstream.find_batches(batch.id, batch.created_at)
    doubles = [other for other in found if other.id != batch.upstream_id]
    for double in doubles:
        if double.status in (*TERMINAL, "cancelling"):
            continue
        log.error("batch_doubled", **batch.names, double=double.id)
        try:
            await ctx.upstream.cancel(double.id)
        except UpstreamError as error:
            log.error("double_runs_on", **batch.names, double=double.id, **logs.said(error))
    return doubles
