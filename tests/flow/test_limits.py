"""Enqueued-token limits: learned, kept, shared fairly, and forgotten when they prove wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from openaibatching.server.database.pool import Database
from openaibatching.server.domain.endpoints import EMBEDDINGS
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.simulator import Simulator, running
from support.steps import STEPS, answer, chat, drive, look, put
from support.world import Clock, settings_for

Rows = psycopg.Connection[tuple[object, ...]]
LAG_S = 600.0


@pytest.fixture
def limited(clock: Clock) -> Iterator[tuple[Simulator, str]]:
    simulator = Simulator(
        lag=LAG_S,
        enqueued_token_limits={"gpt-4o": 1000, "text-embedding-3-small": 1000},
        clock=lambda: clock().timestamp(),
    )
    with running(simulator) as base_url:
        yield simulator, base_url


@pytest.fixture
async def servers(
    ctx: Context, clock: Clock, database_url: str, limited: tuple[Simulator, str]
) -> AsyncIterator[list[Context]]:
    """Two servers on one database, before an OpenAI with limits."""
    settings = settings_for(limited[1], ctx.settings.data_dir)
    await ctx.upstream.close()
    ctx.upstream = Upstream(settings)
    database = Database(database_url, connections_max=4)
    await database.open()
    other = Context(settings, database, Upstream(settings), clock)
    yield [ctx, other]
    await other.upstream.close()
    await database.close()


async def test_a_told_limit_is_kept_from_then_on_by_all_servers_and_the_backlog_drains(
    servers: list[Context], clock: Clock, limited: tuple[Simulator, str], rows: Rows
) -> None:
    simulator, _ = limited
    requests = await put(servers[0], *(chat(f"{n} " + "word " * 70) for n in range(40)))
    levels = []
    for _ in range(500):
        for ctx in servers:
            for step in STEPS:
                while await step(ctx):
                    pass
        running_ = [b for b in simulator.batches() if b["status"] in ("validating", "in_progress")]
        levels.append(sum(b["request_counts"]["total"] for b in running_))
        if not rows.execute("select from shown_request where finished_at is null").fetchall():
            break
        clock.advance(30)
    found = await look(servers[0], requests)
    assert {(r.state, r.attempts) for r in found} == {("completed", 1)}
    assert rows.execute("select told, lowered from model_limit").fetchone() == (1000, None)
    statuses = Counter(batch["status"] for batch in simulator.batches())
    assert statuses["failed"] == 1, "the limit is met once and kept from then on"
    # 100 tokens each: with ten at a time and 10 minutes a batch, 40 take four turns. A queue that
    # stood still between them would take more.
    assert len(levels) * 30 < 6 * LAG_S
    assert set(simulator.ledger.counts().values()) == {1}


async def test_tenants_share_what_the_limit_leaves(
    servers: list[Context], rows: Rows, clock: Clock
) -> None:
    ctx = servers[0]
    rows.execute("insert into model_limit (model, told, told_at) values ('gpt-4o', 1000, now())")
    await put(ctx, *(chat(f"first {n} " + "word " * 70) for n in range(30)))
    for n in range(30):
        await put(ctx, chat(f"second {n} " + "word " * 70), tenant="second")
    await put(ctx, chat("third " + "word " * 70), tenant="third")
    clock.advance(60)
    assert await form_one(ctx)
    taken: dict[object, int] = {
        tenant: int(str(n))
        for tenant, n in rows.execute("select tenant, count(*) from sent group by tenant")
    }
    assert taken["third"] == 1
    assert abs(taken["default"] - taken["second"]) <= 1
    assert sum(taken.values()) >= 8, "the limit leaves room for about nine"


async def test_one_request_above_the_limit_fails_with_openais_reason_and_blocks_nobody(
    servers: list[Context], clock: Clock, limited: tuple[Simulator, str]
) -> None:
    ctx = servers[0]
    requests = await put(ctx, chat("word " * 2000), *(chat(f"small {n}") for n in range(5)))
    await drive(ctx, clock)
    large, *small = await look(ctx, requests)
    assert (large.state, large.status_code) == ("failed", 400)
    assert answer(large)["error"]["code"] == "token_limit_exceeded"
    assert {r.state for r in small} == {"completed"}
    assert set(limited[0].ledger.counts().values()) == {1}


async def test_an_estimate_that_is_too_low_shrinks_the_batches_until_they_fit_and_is_corrected(
    servers: list[Context], clock: Clock, limited: tuple[Simulator, str], rows: Rows
) -> None:
    bodies = [
        {"model": "text-embedding-3-small", "input": [n % 10] * 450, "user": str(n)}
        for n in range(12)
    ]
    requests = await put(servers[0], *bodies, endpoint=EMBEDDINGS)
    rows.execute("update request set tokens = 230")
    rows.execute("update queued set tokens = 230")  # about half of what OpenAI counts
    await drive(servers[0], clock)
    assert {r.state for r in await look(servers[0], requests)} == {"completed"}
    assert set(limited[0].ledger.counts().values()) == {1}
    assert rows.execute("select told, lowered from model_limit").fetchall() == [(1000, None)]
    factor = rows.execute(f"select token_factor('{EMBEDDINGS}', 'text-embedding-3-small')")
    assert 1.5 < float(str(factor.fetchone()[0])) < 450 / 230  # type: ignore[index]


@pytest.mark.parametrize("then", [400, 4000])
async def test_a_limit_that_openai_changes_is_the_new_one(
    servers: list[Context], clock: Clock, limited: tuple[Simulator, str], rows: Rows, then: int
) -> None:
    simulator, _ = limited
    rows.execute(
        "insert into model_limit (model, told, told_at) values ('gpt-4o', 1000, %s)", [clock()]
    )
    simulator.engine.settings.token_limits["gpt-4o"] = then  # type: ignore[index]
    # Larger than the old limit by itself: only OpenAI can say that it fits now, or does not.
    size = 1500 if then == 4000 else 600
    requests = await put(servers[0], chat("word " * (size * 4 // 5)), chat("small"))
    await drive(servers[0], clock)
    states = [r.state for r in await look(servers[0], requests)]
    [(told, kept)] = rows.execute("select told, limit_at(l, now()) from model_limit l").fetchall()
    if then == 4000:
        assert states == ["completed", "completed"]
        assert told == 1000, "OpenAI did not say so"
        assert int(str(kept)) >= 1500, "what OpenAI took is not above the limit"
    else:
        assert states == ["failed", "completed"]
        assert told == 400


async def test_a_day_without_a_refusal_forgets_a_limit(
    servers: list[Context], clock: Clock, rows: Rows
) -> None:
    rows.execute(
        "insert into model_limit (model, told, told_at, held_until) values"
        " ('old', 1000, now() - interval '25 hours', now() - interval '25 hours'),"
        " ('new', 1000, now() - interval '23 hours', now() - interval '25 hours')"
    )
    async with servers[0].database.transaction() as conn:
        await store.forget(conn, 30, 10, None)
    assert rows.execute("select model from model_limit").fetchall() == [("new",)]


async def test_the_file_that_is_sent_keeps_the_limits_by_its_real_bytes(
    servers: list[Context], clock: Clock, limited: tuple[Simulator, str], rows: Rows
) -> None:
    ctx = servers[0]
    most = 1200
    object.__setattr__(ctx, "settings", settings_for(
        limited[1], ctx.settings.data_dir, batch_bytes_max=most, batch_requests_max=7
    ))  # fmt: skip
    texts = [text * 20 for text in ("a", "é", "\u2028", "\U0001f600", '"\\', "\x00")] * 4
    requests = await put(ctx, *(chat(f"{n}{text}") for n, text in enumerate(texts)))
    await drive(ctx, clock)
    assert {r.state for r in await look(ctx, requests)} == {"completed"}
    sizes = rows.execute("select bytes, requests from batch").fetchall()
    assert max(int(str(size)) for size, _ in sizes) <= most
    assert max(int(str(n)) for _, n in sizes) <= 7
    assert len(limited[0].batches()) == len(sizes) > 4
