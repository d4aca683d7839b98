"""Form: queued requests of one endpoint and model become a batch, when it is full or has waited.

The queue is read in fair turns (queries.sql, read_queue), so that no tenant's backlog stands before
another's call; here it only matters that what comes first goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from openaibatching.server.billing import spending
from openaibatching.server.config.settings import ALL_TENANTS, UPSTREAM_INPUTS_MAX
from openaibatching.server.database.statements import Connection
from openaibatching.server.pipeline import lone, model_limits
from openaibatching.server.pipeline import queue as pipeline_queue
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.purse import Purse
from openaibatching.server.pipeline.queue import Queued
from openaibatching.server.telemetry import counters, logs

log = logs.get()

FORMED_AT_ONCE = 20
"""Batches that are made of what one look at the queue has found."""
LIMIT_SHARE = 0.95
"""So much of a token limit our estimates may fill: they are about right; a refusal costs time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may hold. `tokens_free` is what the model's enqueued-token limit leaves, in
    tokens as they are estimated at the door; `usd_left` what each budget leaves (purse.py).

    `alone` says that none of the model's batches is upstream: then one request is sent even
    if our estimate says that it does not fit, because only OpenAI knows.
    """

    requests: int
    bytes: int
    linger: timedelta
    inputs: int = UPSTREAM_INPUTS_MAX
    usd_left: Mapping[str, float] = field(default_factory=dict)
    tokens_free: int | None = None
    alone: bool = True


def choose(queue: Sequence[Queued], limits: Limits, waited: timedelta) -> list[Queued]:
    """The next batch, taken from the front of `queue`; empty if it is better to wait.

    A batch is due when it is full (by lines, bytes, embedding inputs, tokens or money) or when the
    oldest request has `waited` for `linger`.
    """
    chosen: list[Queued] = []
    bytes_, inputs, tokens = 0, 0, 0
    full = False
    purse = Purse(limits.usd_left)
    for request in queue:
        if not purse.take(request):
            full = full or purse.empty
            continue
        bytes_ += request.line_bytes
        inputs += request.inputs
        tokens += request.tokens
        starved = limits.tokens_free is not None and tokens > limits.tokens_free
        if starved and not (limits.alone and not chosen):
            full = True
            break
        if chosen and (bytes_ > limits.bytes or inputs > limits.inputs):
            full = True
            break
        chosen.append(request)
        if len(chosen) == limits.requests:
            full = True
            break
    if not chosen:
        return []
    return chosen if full or waited >= limits.linger else []


def _full(queue: pipeline_queue.Measure, limits: Limits) -> bool:
    """Whether `choose` would find a full batch: asked of sums, before any row is read."""
    return (
        queue.requests >= limits.requests
        or queue.bytes > limits.bytes
        or queue.inputs > limits.inputs
        or (limits.tokens_free is not None and queue.tokens > limits.tokens_free)
    )


async def form_one(ctx: Context) -> bool:
    """Make at most one batch; whether one was made."""
    return await form_some(ctx, 1)


async def form_some(ctx: Context, most: int = FORMED_AT_ONCE) -> bool:
    """Make at most so many batches; whether one was made."""
    linger = timedelta(seconds=ctx.settings.batch_linger_s)
    async with ctx.database.transaction() as conn:
        money_ = await _money(ctx, conn)
        if money_ is None:
            return False
        creations = await pipeline_queue.read_creations(conn, ctx.now())
        most = min(most, creations.free)
        if most < 1:
            return False
        groups = await pipeline_queue.list_groups(
            conn, money_.held_back, creations, linger, ctx.now()
        )
    formed = 0
    for group in groups:
        formed += await _form(ctx, group, money_)
        if formed == most:
            break
    return formed > 0


@dataclass(frozen=True, slots=True)
class _Money:
    """The tenants that may send nothing now, and the USD that each budget leaves to the others."""

    held_back: set[str]
    left: dict[str, float]


async def _money(ctx: Context, conn: Connection) -> _Money | None:
    """What the budgets allow, after what today has cost and what the batches at OpenAI cost at
    most; None: nobody may send.

    The door keeps to the budget by estimates, which may be too low. This does not depend on them:
    what passes the budget can only be the batch that is formed last, and it is no larger than what
    is left (purse.py).
    """
    budgets = await spending.read_budgets(conn, ctx.settings.budgets, ctx.now())
    held_back = {name for name, budget in budgets.items() if not budget.sends}
    left = {name: budget.left for name, budget in budgets.items()}
    return None if ALL_TENANTS in held_back else _Money(held_back, left)


async def _form(ctx: Context, group: pipeline_queue.Group, seen: _Money) -> bool:
    settings = ctx.settings
    async with ctx.database.transaction() as conn:
        if not await pipeline_queue.lock_model(conn, group.model):
            return False
        # Asked once more where nobody else can form a batch of this money meanwhile.
        left = seen.left
        if settings.budgets:
            now = await _money(ctx, conn) if await spending.lock_budgets(conn) else None
            if now is None or now.held_back != seen.held_back:
                return False
            left = now.left
        if group.probing and await model_limits.batches_under_way(conn, group.model):
            return False
        limits = Limits(
            requests=1 if group.probing else settings.batch_requests_max,
            bytes=settings.batch_bytes_max,
            linger=timedelta(seconds=settings.batch_linger_s),
            usd_left=left,
        )
        enqueued = 0
        lone_due = group.lone_at is not None and group.lone_at <= group.now
        if group.token_limit is not None or lone_due:
            enqueued = await pipeline_queue.enqueued_tokens(conn, group.model)
            limits = _with_tokens(limits, group, enqueued)
        chosen: Sequence[Queued] = ()
        if not (lone_due and group.lone_at and group.now - group.lone_at > lone.PATIENCE):
            chosen = await _next(ctx, conn, group, limits)
        if not chosen and lone_due and enqueued == 0:
            found = await model_limits.find_lone(conn, group, seen.held_back, ctx.now())
            chosen = () if found is None else (found,)
        requests = await pipeline_queue.claim(conn, group, chosen) if chosen else 0
    if requests:
        counters.QUEUE_WAIT.observe((group.now - group.queued_at).total_seconds())
        log.info("batch_formed", model=group.model, endpoint=group.endpoint, requests=requests)
    return requests > 0


def _with_tokens(limits: Limits, group: pipeline_queue.Group, enqueued: int) -> Limits:
    """These limits, with what the model's token limit leaves beside its `enqueued` tokens."""
    free = None
    if group.token_limit is not None:
        free = int((group.token_limit * LIMIT_SHARE - enqueued) / group.token_factor)
    return replace(limits, tokens_free=free, alone=enqueued == 0)


async def _next(
    ctx: Context, conn: Connection, group: pipeline_queue.Group, limits: Limits
) -> Sequence[Queued]:
    """The group's next batch, without those requests that have to go alone."""
    waited = limits.linger if group.flushed else group.now - group.queued_at
    if waited < limits.linger and not _full(
        await pipeline_queue.measure_queue(conn, group, limits.requests, ctx.now()), limits
    ):
        return ()
    queue = await pipeline_queue.read_queue(conn, group, limits.requests, ctx.now())
    return await asyncio.to_thread(choose, queue, limits, waited)
