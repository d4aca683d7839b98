"""Refused: OpenAI took none of a batch. Whose fault it is decides who fails and who goes again."""

from __future__ import annotations

from openaibatching.server import (
    journal,
    model_limits,
    refusal,
    results,
    settle,
    store,
    token_limits,
)
from openaibatching.server.context import Context
from openaibatching.server.model import Batch, Result, Unanswered

log = journal.get()

ACCOUNT_HOLDS = 10


async def refused_one(ctx: Context) -> bool:
    """Resolve at most one refused batch; whether there was one."""
    async with ctx.lease(("refused",)) as batch:
        if batch is None:
            return False
        if batch.cancel_wished_at is None:
            await _resolve(ctx, batch)
        else:
            await settle.call_off(ctx, batch)
    return True


async def _resolve(ctx: Context, batch: Batch) -> None:
    """The culprits fail, and the rest goes again without an attempt."""
    async with ctx.database.transaction() as conn:
        owed = await store.read_unanswered(conn, batch)
        verdict = refusal.judge(batch.errors, len(owed))
        if isinstance(verdict, refusal.TokenLimit):
            verdict = await token_limits.learn(ctx, conn, batch, owed, verdict)
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
            await settle.finish(ctx, conn, batch, rows, {r.id: r.tenant for r in owed}, refund=True)
        if isinstance(verdict, refusal.Again):
            hold_s = token_limits.hold_s(ctx) * (ACCOUNT_HOLDS if verdict.account else 1)
            why = ", ".join(refusal.codes(batch.errors)) or None
            await model_limits.hold_model(conn, batch.model, hold_s, why, ctx.now())
            log.warning("model_held", model=batch.model, wait_s=hold_s)
        books = await settle.close_books(ctx, conn, batch)
    await settle.trace(ctx, rows)
    settle.report(batch, books)


def _after_refusal(request: Unanswered, reason: refusal.Reason | None) -> Result:
    if reason is None:
        return Result(request.id, "queued", None, None)
    outcome = results.refused(request.id, reason.code, reason.message, reason.param)
    return Result(request.id, "failed", outcome.status_code, outcome.answer, code=outcome.code)
