"""Token limits: what a batch that is refused for its enqueued tokens teaches about its model."""

from __future__ import annotations

from collections.abc import Sequence

from openaibatching.server.database.statements import Connection
from openaibatching.server.domain import canonical_json
from openaibatching.server.domain.batch import Batch, Unanswered
from openaibatching.server.pipeline import lone, model_limits
from openaibatching.server.pipeline.backoff import backoff_s
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai import refusals as openai_refusals
from openaibatching.server.requests import tokens
from openaibatching.server.telemetry import logs

log = logs.get()

HOLD_S_MIN, HOLDS_MAX = 1.0, 20
ACCOUNT_HOLDS = 10
"""How much longer than usual the account's trouble holds a model at first."""
REASON = "token_limit_exceeded"


async def learn(
    ctx: Context,
    conn: Connection,
    batch: Batch,
    owed: Sequence[Unanswered],
    verdict: openai_refusals.TokenLimit,
) -> openai_refusals.Verdict:
    """Keep what OpenAI told, and see to it that no request waits for ever behind it.

    A refusal of what OpenAI's number allows says that somebody else uses the account, or that our
    estimates are too low. Then a guess of ours goes below the number until a batch fits: what
    OpenAI has of ours, and half of what it refused. It grows again as schema.sql says.
    """
    weight, others = await model_limits.weigh(conn, batch)
    told = verdict.tokens
    if told is not None:
        await model_limits.learn_limit(conn, batch.model, told, ctx.now())
        log.info("limit_learned", model=batch.model, tokens=told)
    if others == 0 and len(owed) == 1:
        request = await _refused_alone(ctx, conn, batch, owed[0])
        if lone.never_fits(request, told):
            return openai_refusals.judge_alone(batch.errors)
        wait_s = backoff_s(request.refusals - 1, first=hold_s(ctx), most=lone.PAUSE_S_MAX)
        await model_limits.defer_request(conn, owed[0].id, wait_s, ctx.now())
        log.warning("request_deferred", **batch.names, refusals=request.refusals, wait_s=wait_s)
        if request.refusals > 1:  # how large it is says nothing about the others
            refusals = await model_limits.count_refusal(conn, batch.model)
            if refusals is not None:
                await _hold(ctx, conn, batch, refusals)
            return verdict
    refusals = 0
    if told is None or others + weight <= told:
        guess = max(1, others + weight // 2)
        refusals = await model_limits.lower_limit(conn, batch.model, guess, ctx.now())
        log.warning("limit_lowered", model=batch.model, tokens=guess)
    await _hold(ctx, conn, batch, refusals)
    return verdict


async def _hold(ctx: Context, conn: Connection, batch: Batch, refusals: int) -> None:
    """Form none of the model's batches for a while; longer after more `refusals` in a row."""
    first = hold_s(ctx)
    wait_s = (
        first if refusals == 0 else backoff_s(refusals - 1, first=first, most=first * HOLDS_MAX)
    )
    log.warning("limit_reached", **batch.names, refusals=refusals, wait_s=wait_s)
    await model_limits.hold_model(conn, batch.model, wait_s, REASON, ctx.now())


async def _refused_alone(
    ctx: Context, conn: Connection, batch: Batch, request: Unanswered
) -> lone.Lone:
    found = await model_limits.refuse_alone(conn, request.id, ctx.now())
    value = canonical_json.parse(found.body)
    media = tokens.has_media(batch.endpoint, value)
    return lone.Lone(
        found.refusals,
        found.since,
        found.now,
        tokens.at_least(value),
        None if media else found.estimate,
    )


def hold_s(ctx: Context) -> float:
    """Seconds for which no batch of a model is formed after a refusal."""
    return max(HOLD_S_MIN, ctx.settings.batch_poll_s)
