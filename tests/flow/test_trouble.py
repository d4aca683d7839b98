"""Why a batch does not get on is kept with it, for people to read, and only as long as it is so."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from openaibatching.server.errors import (
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamUnknown,
)
from openaibatching.server.pipeline.collect import collect_one
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.server.telemetry import logs
from openaibatching.simulator import Simulator
from openaibatching.simulator.faults.faults import Faults
from support.postgres import ONE_KIND
from support.steps import chat, openai_of, put
from support.world import Clock

Rows = psycopg.Connection[tuple[object, ...]]


def trouble(rows: Rows) -> tuple[Any, ...]:
    found = rows.execute("select trouble, troubled_at from batch").fetchone()
    assert found is not None
    return found


@ONE_KIND
@pytest.mark.parametrize(
    ("failing", "step"),
    [
        (Faults(error_500=1.0), upload_one),
        (Faults(error_503=1.0), create_one),
        (Faults(polls_fail=1.0), watch_one),
        (Faults(content_502=1.0), collect_one),
    ],
)
async def test_trouble_is_told_from_its_beginning_to_its_end(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows, failing: Faults, step: Any
) -> None:
    await put(ctx, chat("trouble"))
    clock.advance(60)
    for before in (form_one, upload_one, create_one, watch_one, collect_one):
        if before is step:
            break
        assert await before(ctx)
        clock.advance(60)
    assert trouble(rows)[0] is None
    simulator.faults = failing
    assert await step(ctx)
    said, since = trouble(rows)
    assert said.startswith("OpenAI ")
    clock.advance(600)
    assert await step(ctx)
    assert trouble(rows)[1] == since, "since the first time"
    simulator.faults = Faults()
    clock.advance(600)
    assert await step(ctx)
    if trouble(rows)[0] is not None:  # an upload or a create of unknown outcome is looked for first
        clock.advance(600)
        assert await step(ctx)
    assert trouble(rows)[0] is None


@ONE_KIND
async def test_a_look_that_succeeds_ends_the_trouble_while_openai_works_on(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with openai_of(ctx, clock, lag=3600.0) as simulator:
        await put(ctx, chat("slow"))
        clock.advance(60)
        for step in (form_one, upload_one, create_one):
            assert await step(ctx)
        for faults, troubled in ((Faults(polls_fail=1.0), True), (Faults(), False)):
            simulator.faults = faults
            clock.advance(60)
            assert await watch_one(ctx)
            assert (trouble(rows)[0] is not None) is troubled
    assert rows.execute("select state from batch").fetchone() == ("submitted",)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            UpstreamDenied("Incorrect key sk-a…", status=401, code="invalid_api_key"),
            f"OpenAI answered 401 invalid_api_key ({logs.HINT})",
        ),
        (UpstreamBusy("a text of a call", status=503), "OpenAI answered 503"),
        (UpstreamBusy("x", status=429, code="two words"), "OpenAI answered 429"),
        (UpstreamUnknown("Connection error."), "OpenAI was not reached: Connection error."),
    ],
)
def test_trouble_never_quotes_what_openai_said(error: UpstreamError, said: str) -> None:
    assert logs.trouble(error) == said
