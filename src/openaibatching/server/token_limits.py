"""Token limits: what a batch that is refused for its enqueued tokens teaches about its model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from openaibatching.server import journal, model_limits, refusal, store
from openaibatching.server.context import Context
from openaibatching.server.db import Connection
from openaibatching.server.model import Batch, Unanswered

log = journal.get()

HOLD_S_MIN = 1.0
WAITING_MAX = timedelta(hours=25)


async def learn(
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
    wait_s = hold_s(ctx)
    alone = await store.enqueued_tokens(conn, batch.model) == 0
    if alone and len(owed) == 1 and _never_fits(batch, owed[0], verdict.tokens):
        return refusal.judge_alone(batch.errors)
    log.warning("limit_reached", **batch.names, told=verdict.tokens, wait_s=wait_s)
    await model_limits.hold_model(conn, batch.model, wait_s, None, ctx.now())
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


def hold_s(ctx: Context) -> float:
    """Seconds for which no batch of a model is formed after a refusal."""
    return max(HOLD_S_MIN, ctx.settings.batch_poll_s)
