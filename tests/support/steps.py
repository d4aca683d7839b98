"""Calling the steps one by one, without a worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from openaibatching.server.domain.endpoints import CHAT
from openaibatching.server.domain.request import Call, Request
from openaibatching.server.pipeline.cleanup import clean_one
from openaibatching.server.pipeline.collect import collect_one
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.refused import refused_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.server.providers.openai.client import CALL_TIMEOUT_S, Upstream
from openaibatching.server.reporting import queries
from openaibatching.server.requests import store
from openaibatching.server.requests.parse import read_call
from openaibatching.simulator import Simulator, running
from support.world import Clock

STEPS = (form_one, upload_one, create_one, watch_one, refused_one, collect_one, clean_one)
ROUNDS_MAX = 2000
"""Only what stands still for good takes so many: some faults strike one batch many times over."""
ROUND_S = 30.0


def chat(text: str, model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def put(
    ctx: Context, *bodies: dict[str, Any], endpoint: str = CHAT, tenant: str = "default"
) -> list[Request]:
    """Accept these calls, as the door does."""
    calls = [
        read_call(ctx.settings, tenant, endpoint, json.dumps(body).encode(), None)
        for body in bodies
    ]
    return await store_calls(ctx, calls)


async def store_calls(ctx: Context, calls: Sequence[Call]) -> list[Request]:
    """Accept calls that are understood, and perhaps estimated, already."""
    async with ctx.database.transaction() as conn:
        found = {r.id: r for r in await store.accept_requests(conn, calls)}
    if isinstance(ctx.clock, Clock):
        ctx.clock.catch_up()
    return [found[call.id] for call in calls]


async def look(ctx: Context, requests: Sequence[Request]) -> list[Request]:
    """The requests as they are now, in the same order."""
    async with ctx.database.transaction() as conn:
        tenants, ids = {r.tenant for r in requests}, [r.id for r in requests]
        found = {r.id: r for r in await store.read_requests(conn, list(tenants), ids)}
    return [found[request.id] for request in requests]


@asynccontextmanager
async def openai_of(
    ctx: Context, clock: Clock, *, call_timeout_s: float = CALL_TIMEOUT_S, **options: Any
) -> AsyncIterator[Simulator]:
    """An OpenAI on the same clock, which `ctx` speaks to from now on."""
    simulator = Simulator(clock=lambda: clock().timestamp(), **options)
    with running(simulator) as base_url:
        await ctx.upstream.close()
        settings = ctx.settings.model_copy(update={"openai_base_url": base_url})
        ctx.upstream = Upstream(settings, call_timeout_s=call_timeout_s)
        yield simulator
        await ctx.upstream.close()


async def turn(ctx: Context, clock: Clock, rounds: int, round_s: float = 60.0) -> None:
    """Call every step, turning the clock, for so many rounds."""
    for _ in range(rounds):
        for step in STEPS:
            while await step(ctx):
                pass
        clock.advance(round_s)


async def drive(ctx: Context, clock: Clock, round_s: float = ROUND_S) -> None:
    """Call every step, turning the clock, until nothing is left to do."""
    for _ in range(ROUNDS_MAX):
        for step in STEPS:
            while await step(ctx):
                pass
        async with ctx.database.transaction() as conn:
            tally = await queries.read_tally(conn)
        open_requests = tally.get(("request", "queued"), 0) + tally.get(
            ("request", "in_progress"), 0
        )
        batches = sum(n for (what, state), n in tally.items() if what == "batch")
        if open_requests == 0 and batches == tally.get(("batch", "closed"), 0):
            return
        clock.advance(round_s)
    raise AssertionError(f"still not done after {ROUNDS_MAX} rounds: {tally}")


def answer(request: Request) -> Any:
    """The answer as JSON."""
    assert request.answer is not None, request
    return json.loads(request.answer)


def said(request: Request) -> str:
    """The text of a chat answer."""
    text = answer(request)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text
