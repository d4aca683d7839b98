"""Enqueued-token limits that our estimate gets wrong: nothing waits for ever behind them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openaibatching.server.context import Context
from openaibatching.server.upstream import Upstream
from openaibatching.simulator import Simulator, running
from support.steps import answer, chat, drive, look, put
from support.world import Clock, settings_for


@pytest.fixture
def limited() -> Iterator[tuple[Simulator, str]]:
    simulator = Simulator(lag=0.0, enqueued_token_limits={"gpt-4o": 1000})
    with running(simulator) as base_url:
        yield simulator, base_url


async def _point_at(ctx: Context, base_url: str) -> None:
    await ctx.upstream.close()
    ctx.upstream = Upstream(settings_for(base_url, ctx.settings.data_dir))


async def test_one_request_above_the_limit_fails_with_openais_reason_and_blocks_nobody(
    ctx: Context, clock: Clock, limited: tuple[Simulator, str]
) -> None:
    simulator, base_url = limited
    await _point_at(ctx, base_url)
    requests = await put(ctx, chat("word " * 2000), *(chat(f"small {n}") for n in range(5)))
    await drive(ctx, clock)
    large, *small = await look(ctx, requests)
    assert (large.state, large.status_code) == ("failed", 400)
    assert answer(large)["error"]["code"] == "token_limit_exceeded"
    assert {r.state for r in small} == {"completed"}
    assert set(simulator.ledger.counts().values()) == {1}


async def test_an_estimate_that_is_too_low_shrinks_the_batches_until_they_fit(
    ctx: Context, clock: Clock, limited: tuple[Simulator, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, base_url = limited
    await _point_at(ctx, base_url)
    # Ours says a tenth of what OpenAI counts, as with images or token lists.
    monkeypatch.setattr("openaibatching.server.call.BYTES_PER_TOKEN", 40)
    requests = await put(ctx, *(chat(f"{n} " + "word " * 160) for n in range(12)))
    await drive(ctx, clock)
    assert {r.state for r in await look(ctx, requests)} == {"completed"}
    assert set(simulator.ledger.counts().values()) == {1}
