"""An upload that acts when another server is through with its batch leaves no file behind."""

from __future__ import annotations

import asyncio

import pytest

from openaibatching.server.errors import LeaseLost
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import upload_one
from openaibatching.simulator import Faults, Simulator
from support.postgres import ONE_KIND
from support.steps import chat, drive, look, put, said
from support.world import Clock

pytestmark = ONE_KIND


@pytest.mark.parametrize("reply", ["arrives", "is lost"])
async def test_a_file_that_arrives_after_its_batch_was_closed_is_deleted(
    ctx: Context, clock: Clock, simulator: Simulator, reply: str
) -> None:
    requests = await put(ctx, chat("late"))
    clock.advance(1)
    assert await form_one(ctx)
    gate = simulator.gate("POST /files", when="before")
    uploading = asyncio.create_task(upload_one(ctx))
    await asyncio.to_thread(gate.wait_reached)
    # No session holds this server's number here, so to another one its lease is free.
    other = Context(ctx.settings, ctx.database, ctx.upstream, clock)
    await drive(other, clock)
    assert simulator.files() == []
    if reply == "is lost":
        simulator.faults = Faults(lose_upload_reply=1.0)
    gate.release()
    with pytest.raises(LeaseLost):
        await uploading
    assert simulator.files() == []
    assert len(simulator.batches()) == 1
    assert said((await look(ctx, requests))[0]) == "You said: late"
