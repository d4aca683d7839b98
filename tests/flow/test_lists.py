"""Looking for what OpenAI may have already, in lists that are none or have no end."""

from __future__ import annotations

import uuid

import pytest

from openaibatching.server.errors import UpstreamUnknown
from openaibatching.server.pipeline.context import Context
from openaibatching.simulator import Faults
from openaibatching.simulator.engine.content import Content, Folder
from openaibatching.simulator.engine.state import File
from support.steps import chat, drive, openai_of, put
from support.world import Clock

pytestmark = pytest.mark.parametrize("cluster", ["embedded"], indirect=True)
FAULTS = ["list_without_data", "list_ignores_after", "list_empty_page"]
NOBODY = uuid.UUID(int=0)


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_in_no_such_list_is_unknown_and_not_absent(
    ctx: Context, clock: Clock, fault: str
) -> None:
    async with openai_of(ctx, clock) as simulator:
        since = clock()
        await put(ctx, chat("one"))
        await drive(ctx, clock)
        simulator.faults = Faults(**{fault: 1.0})  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(UpstreamUnknown):
                await ctx.upstream.find_batches(NOBODY, since)
        simulator.faults = Faults()
        assert await ctx.upstream.find_batches(NOBODY, since) == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_files_in_no_such_list_are_unknown_too(
    ctx: Context, clock: Clock, fault: str
) -> None:
    async with openai_of(ctx, clock) as simulator:
        now = clock().timestamp()
        content = Content(3, b"{}\n", None, Folder())
        simulator.engine.store.add_file(File(content, "there.jsonl", "batch", now))
        simulator.faults = Faults(**{fault: 1.0})  # type: ignore[arg-type]
        with pytest.raises(UpstreamUnknown):
            await ctx.upstream.find_files("none.jsonl", clock())
        simulator.faults = Faults()
        assert await ctx.upstream.find_files("none.jsonl", clock()) == []
        assert len(await ctx.upstream.find_files("there.jsonl", clock())) == 1


async def test_what_is_in_a_list_without_end_is_found(ctx: Context, clock: Clock) -> None:
    async with openai_of(ctx, clock, faults=Faults(list_ignores_after=1.0)) as simulator:
        since = clock()
        await put(ctx, chat("one"))
        await drive(ctx, clock)
        [batch] = simulator.batches()
        key = uuid.UUID(next(iter(batch["metadata"].values())))
        assert [found.id for found in await ctx.upstream.find_batches(key, since)] == [batch["id"]]
