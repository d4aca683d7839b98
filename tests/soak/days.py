"""Worlds of days in seconds: three servers in this process, on a clock that runs ahead.

Here is what takes hours at OpenAI: batches that are stuck, expire, finalize for minutes, polls
that fail for long, token limits that hold a backlog back. A server that dies is cut from its
database and from OpenAI in the middle of a call; its session, and with it its leases, is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from openaibatching.server.config.settings import Settings
from openaibatching.server.database.listener import Session
from openaibatching.server.database.migrations import migrate
from openaibatching.server.database.pool import Database
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.reporting import queries
from openaibatching.simulator import Simulator, running
from soak.worlds import Fortunes, Report, bodies, check_answers, check_books, faults
from support.postgres import Cluster
from support.steps import STEPS, look, put
from support.world import Clock, settings_for

SERVERS = 3
REQUESTS = 200
ARRIVALS_MAX = 30
TICKS_S = (20.0, 120.0, 900.0)
TICKS_MAX = 3000
TURNS = 60
"""So many ticks, the account gets into trouble."""
DEATH_SHARE = 0.05
CALL_TIMEOUT_S = 0.3
HARD_TIMES = {
    "timeouts": 0.05, "hold_s": 1.0, "content_404": 0.2, "stuck": 0.1, "stuck_finalizing": 0.2,
    "stuck_finalizing_s": 1068.0, "late_s": 20.0, "file_invisible_s": 30.0, "expires_late": 0.1,
    "late_file_ids_s": 600.0, "unreadable_custom_ids": 0.05, "null_file_id": 0.1,
    "lying_counts": 0.5, "unknown_custom_id": 0.05, "missing_custom_id": 0.05,
}  # fmt: skip
"""Besides what real time has. What OpenAI counts and does not show is waited for, for 12 hours."""


@dataclass
class Server:
    """One of the servers: its context, and the session that holds its number."""

    ctx: Context
    session: asyncio.Task[None]

    @classmethod
    async def start(cls, settings: Settings, url: str, clock: Clock) -> Server:
        database = Database(url, connections_max=3)
        await database.open()
        upstream = Upstream(settings, call_timeout_s=CALL_TIMEOUT_S)
        ctx = Context(settings, database, upstream, clock)
        held = asyncio.Event()
        session = Session(url, ctx.server, lambda _: held.set())
        task = asyncio.create_task(session.run())
        await held.wait()
        return cls(ctx, task)

    async def die(self) -> None:
        """No connection is left; whoever works in it fails wherever it stands."""
        self.session.cancel()
        await asyncio.gather(self.session, return_exceptions=True)
        await self.ctx.upstream.close()
        await self.ctx.database.close()


async def _work(server: Server) -> None:
    for step in STEPS:
        while await step(server.ctx):
            pass


async def _die_working(server: Server, dice: random.Random) -> None:
    """Die somewhere in the middle of the work."""
    working = asyncio.create_task(_work(server))
    for _ in range(dice.randint(1, 60)):
        await asyncio.sleep(0)
    await server.die()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):  # it is dead: nobody hears it
        await working


def run_world(seed: int, cluster: Cluster, folder: Path) -> Report:
    """Live through one seed and check it."""
    report, started = Report("days", seed), time.monotonic()
    dice, clock = random.Random(seed), Clock()
    begun = clock()
    simulator = Simulator(
        lag=dice.choice((60.0, 3600.0, 6 * 3600.0)), cancel_s=300.0,
        faults=faults(seed, **HARD_TIMES), clock=lambda: clock().timestamp(),
        enqueued_token_limits=dice.choice(({}, {"gpt-4o-0": 400})),
    )  # fmt: skip
    with cluster.database() as url, running(simulator) as base_url:
        asyncio.run(migrate(url, wait_s=10))
        settings = settings_for(
            base_url, folder, batch_requests_max=40, batch_linger_s=60.0, batch_poll_s=30.0,
            batch_settle_s=60.0, batch_attempts_max=25,
        )  # fmt: skip
        asyncio.run(_live(settings, url, clock, simulator, dice, report))
        check_books(url, simulator, report)
    report.more["hours"] = round((clock() - begun).total_seconds() / 3600)
    report.seconds = time.monotonic() - started
    return report


async def _live(
    settings: Settings, url: str, clock: Clock, simulator: Simulator, dice: random.Random,
    report: Report,
) -> None:  # fmt: skip
    async def another() -> Server:
        return await Server.start(settings, url, clock)

    servers = [await another() for _ in range(SERVERS)]
    try:
        calls = bodies(report.seed, REQUESTS)
        fortunes = Fortunes(report.seed, simulator, TURNS)
        waiting = list(calls)
        for _ in range(TICKS_MAX):
            arrived = [
                waiting.pop() for _ in range(min(len(waiting), dice.randrange(ARRIVALS_MAX)))
            ]
            if arrived:
                await put(dice.choice(servers).ctx, *arrived)
            fortunes.turn()
            await _tick(servers, another, dice, report)
            if not waiting and await _done(servers[0].ctx):
                break
            clock.advance(dice.choice(TICKS_S))
        else:
            report.wrong.append(f"still not done after {TICKS_MAX} ticks")
        ctx = servers[0].ctx
        requests = await look(ctx, await put(ctx, *calls))
    finally:
        for server in servers:
            await server.die()
    answers = [json.loads(request.answer or b"null") for request in requests]
    states = [request.state for request in requests]
    check_answers(zip(calls, states, answers, strict=True), simulator, report)


async def _tick(
    servers: list[Server], another: Callable[[], Awaitable[Server]], dice: random.Random,
    report: Report,
) -> None:  # fmt: skip
    """All servers work at once; now and then one dies of it, and another takes its place."""
    dying = dice.randrange(SERVERS) if dice.random() < DEATH_SHARE else None
    await asyncio.gather(
        *(
            _die_working(server, dice) if place == dying else _work(server)
            for place, server in enumerate(servers)
        )
    )
    if dying is not None:
        report.kills += 1
        servers[dying] = await another()


async def _done(ctx: Context) -> bool:
    async with ctx.database.transaction() as conn:
        tally = await queries.read_tally(conn)
    open_ = [n for (what, state), n in tally.items()
             if (what, state) != ("batch", "closed") and state not in
             ("completed", "failed", "cancelled")]  # fmt: skip
    return not any(open_)
