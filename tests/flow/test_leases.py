"""A lease says who works on a batch: exactly one step of one server, handed on without a gap."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from openaibatching.server.errors import DatabaseUnavailable, LeaseLost
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.held_batch import HeldBatch
from openaibatching.server.pipeline.steps import STEPS
from openaibatching.server.pipeline.worker import Worker
from support.postgres import Cluster
from support.steps import chat, look, put
from support.world import Clock, until


async def formed(ctx: Context, clock: Clock) -> None:
    await put(ctx, chat("leased"))
    clock.advance(1)
    assert await form_one(ctx)


async def test_the_next_step_may_have_the_batch_before_the_last_one_has_left(
    ctx: Context, clock: Clock
) -> None:
    await formed(ctx, clock)
    async with ctx.leases.take("claimed") as batch:
        assert batch is not None
        await batch.release(0)
        async with ctx.leases.take("claimed") as handed_on:
            assert handed_on is not None
            assert handed_on.row.id == batch.row.id
            with pytest.raises(LeaseLost):
                await move(batch)
            await move(handed_on)


async def test_nobody_else_of_this_server_takes_what_one_works_on(
    ctx: Context, clock: Clock
) -> None:
    # No session holds this server's number here, so to the others its lease is free.
    await formed(ctx, clock)
    async with ctx.leases.take("claimed") as batch, ctx.leases.take("claimed") as second:
        assert batch is not None
        assert second is None


async def test_a_step_that_fails_late_gives_back_its_own_lease_only(
    ctx: Context, clock: Clock
) -> None:
    await formed(ctx, clock)
    late = ctx.leases.take("claimed")
    batch = await late.__aenter__()
    assert batch is not None
    await batch.release(0)
    async with ctx.leases.take("claimed") as handed_on:
        assert handed_on is not None
        error = RuntimeError("late")
        assert not await late.__aexit__(RuntimeError, error, None)
        await move(handed_on)


async def test_renewing_stops_the_step_whose_lease_went_to_another_server(
    ctx: Context, clock: Clock
) -> None:
    await formed(ctx, clock)
    other = Context(ctx.settings, ctx.database, ctx.upstream, clock)
    holding = asyncio.Event()

    async def work() -> None:
        async with ctx.leases.take("claimed"):
            holding.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await holding.wait()
    await ctx.leases.renew()
    assert not working.done()
    async with other.leases.take("claimed") as taken:
        assert taken is not None
        await ctx.leases.renew()
        with pytest.raises(LeaseLost):
            await working
        await move(taken)


async def test_renewing_leaves_a_step_alone_that_has_just_given_its_batch_back(
    ctx: Context, clock: Clock
) -> None:
    await formed(ctx, clock)
    async with ctx.leases.take("claimed") as batch:
        assert batch is not None
        await batch.release(0)
        await ctx.leases.renew()
        await asyncio.sleep(0)  # where a cancellation would arrive


async def test_what_could_not_be_given_back_is_given_back_when_the_database_is_there_again(
    ctx: Context, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    await formed(ctx, clock)
    name = database_url.split("?")[0].rsplit("/", 1)[1]

    async def cut_off() -> None:
        async with ctx.leases.take("claimed") as batch:
            assert batch is not None
            cluster.execute(f"alter database {name} allow_connections false")
            cluster.execute(
                f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            )
            await move(batch)

    with pytest.raises(DatabaseUnavailable):
        await cut_off()
    cluster.execute(f"alter database {name} allow_connections true")

    async def renewed() -> bool:
        try:
            await ctx.leases.renew()
        except DatabaseUnavailable:
            return False
        return True

    await until(renewed)
    async with ctx.database.transaction() as conn:
        row = await (await conn.execute("select lease_by from batch")).fetchone()
    assert row == (None,)


async def move(batch: HeldBatch) -> None:
    async with batch.transaction() as writes:
        await writes.start_upload()


async def test_a_step_that_is_stopped_does_not_take_its_loop_along(
    ctx: Context, rows: psycopg.Connection[tuple[object, ...]], database_url: str
) -> None:
    # Seen when a lease was lost at the very moment at which its step failed by itself.
    ctx.clock = None
    worker = Worker(ctx, STEPS)
    working = asyncio.create_task(worker.run())
    requests = await put(ctx, chat("stopped"))

    async def uploading() -> asyncio.Task[object] | None:
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and query like %s"
        blocked = rows.execute(waiting, ["%select r.id, p.body%"]).fetchall()
        return next(iter(ctx.leases.held.values())) if blocked else None

    with psycopg.connect(database_url) as lock:
        lock.execute("lock table openaibatching.body in access exclusive mode")
        for _ in range(2):  # as many as there are loops that upload
            step: asyncio.Task[object] = await until(uploading)
            step.cancel()
            await asyncio.wait((step,))
            rows.execute("update batch set next_at = now()")

    async def finished() -> bool:
        return all(request.finished for request in await look(ctx, requests))

    await until(finished)
    await worker.drain()
    await working
