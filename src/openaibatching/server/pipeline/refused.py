"""Refused: OpenAI took none of a batch. Whose fault it is decides who fails and who goes again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.batch import Batch, Result, Unanswered
from openaibatching.server.pipeline import model_limits, settle, store, token_limits
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.held_batch import HeldBatch
from openaibatching.server.providers.openai import output_lines, refusals
from openaibatching.server.telemetry import logs

log = logs.get()

PROBING_MAX = timedelta(hours=25)
"""How long a request may be tried alone before its refusal is its end."""


async def refused_one(ctx: Context) -> bool:
    """Resolve at most one refused batch; whether there was one."""
    async with ctx.leases.take("refused") as held:
        if held is None:
            return False
        if held.row.cancel_wished_at is None:
            await _resolve(ctx, held)
        else:
            await settle.call_off(ctx, held)
    return True


async def _resolve(ctx: Context, held: HeldBatch) -> None:
    """The culprits fail, and the rest goes again without an attempt."""
    batch = held.row
    async with held.transaction() as writes:
        conn = writes.conn
        owed = await store.read_unanswered(conn, batch)
        verdict = await _judge(ctx, conn, batch, owed)
        log.warning(
            "batch_refused",
            **batch.names,
            verdict=type(verdict).__name__.lower(),
            requests=len(owed),
            codes=refusals.codes(batch.errors),
        )
        if isinstance(verdict, refusals.Wait):
            await writes.release(token_limits.hold_s(ctx))
            return
        rows: list[Result] = []
        if isinstance(verdict, refusals.Halve):
            await writes.split(owed)
            log.warning("batch_halved", **batch.names, requests=len(owed))
        else:
            reasons = verdict.reasons if isinstance(verdict, refusals.Culprits) else {}
            rows = [_after_refusal(r, reasons.get(line)) for line, r in enumerate(owed)]
            await settle.finish(ctx, writes, rows, {r.id: r.tenant for r in owed})
        await _hold(ctx, conn, batch, owed, verdict)
        books = await settle.close_books(ctx, writes)
    await settle.trace(ctx, rows)
    settle.report(batch, books)


async def _judge(
    ctx: Context, conn: Connection, batch: Batch, owed: Sequence[Unanswered]
) -> refusals.Verdict:
    works = await model_limits.works(conn, batch.model, ctx.now())
    verdict = refusals.judge(batch.errors, len(owed), model_works=works)
    if isinstance(verdict, refusals.TokenLimit):
        return await token_limits.learn(ctx, conn, batch, owed, verdict)
    if not isinstance(verdict, refusals.Halve):
        return verdict
    trust = await model_limits.read_trust(conn, batch.model, ctx.now())
    verdict = refusals.blame(batch.errors, len(owed), trust, await _sibling(conn, batch))
    waited_for_all = batch.now - min(r.created_at for r in owed) > PROBING_MAX
    if isinstance(verdict, refusals.Hold) and len(owed) == 1 and waited_for_all:
        verdict = refusals.judge_alone(batch.errors)
    if isinstance(verdict, refusals.Culprits):
        await model_limits.note_refused_alone(conn, batch.model, refusals.words(batch.errors))
    return verdict


async def _sibling(conn: Connection, batch: Batch) -> refusals.Sibling:
    found = await model_limits.read_sibling(conn, batch) if batch.parent_id else None
    if found is None:
        return refusals.Sibling.NONE if batch.parent_id is None else refusals.Sibling.ACCEPTED
    return refusals.sibling_of(*found, batch.errors)


async def _hold(
    ctx: Context,
    conn: Connection,
    batch: Batch,
    owed: Sequence[Unanswered],
    verdict: refusals.Verdict,
) -> None:
    """Form none of the model's batches for a while, if the refusal is about more than a line."""
    if not isinstance(verdict, refusals.Again | refusals.Hold):
        return
    account = isinstance(verdict, refusals.Again) and verdict.account
    if len(owed) == 1:  # so that another request is the next one to be tried
        await model_limits.defer_request(conn, owed[0].id, 0, ctx.now())
    await model_limits.hold_longer(
        conn,
        batch.model,
        token_limits.hold_s(ctx) * (token_limits.ACCOUNT_HOLDS if account else 1),
        ", ".join(refusals.codes(batch.errors)) or None,
        "answered" if account else "accepted" if isinstance(verdict, refusals.Hold) else None,
        ctx.now(),
    )
    log.warning("model_held", model=batch.model)


def _after_refusal(request: Unanswered, reason: refusals.Reason | None) -> Result:
    if reason is None:
        return Result(request.id, "queued", None, None, refund=True)
    outcome = output_lines.refused(request.id, reason.code, reason.message, reason.param)
    return Result(
        request.id, "failed", outcome.status_code, outcome.answer, code=outcome.code, refund=True
    )
