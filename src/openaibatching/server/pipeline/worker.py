"""The worker calls the steps at its own pace. Any number of servers may each run one.

A step does at most one unit of work and says whether there was any, so a loop sleeps only when
there is nothing to do. One look at the batches, now and then, wakes the loops whose turn has
come; a notification wakes them at once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field

from openaibatching.server.auth import audit
from openaibatching.server.config.settings import LEASE_S, Settings
from openaibatching.server.database.loops import run_forever
from openaibatching.server.errors import DatabaseConflict, DatabaseUnavailable, LeaseLost
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.backoff import backoff_s
from openaibatching.server.pipeline.context import Context
from openaibatching.server.telemetry import logs

log = logs.get()

QUEUED = "queued"
"""What is told when requests shall be sent now."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way. `run` does at most one unit of work and says whether there was any.

    It is called again when something in one of the states `wakes_on` may be taken, by `copies`
    loops side by side.
    """

    name: str
    run: Callable[[Context], Awaitable[bool]]
    wakes_on: tuple[str, ...]
    copies: int = 1


PACE_S_MIN, PACE_S_MAX = 0.02, 1.0
DRAIN_S = 5.0
HEARTBEAT_S = LEASE_S / 4
HOUSEKEEPING_S = 10.0
FORGET_AT_ONCE = 2000
OUTAGE_S_MAX = 5.0


def pace_s(settings: Settings) -> float:
    """How long an idle step sleeps: a fraction of the shortest time that is set."""
    shortest = min(settings.batch_linger_s, settings.batch_poll_s, settings.batch_settle_s)
    return min(PACE_S_MAX, max(PACE_S_MIN, shortest / 4))


@dataclass
class _Loop:
    step: Step
    paced: bool = False
    """Whether it looks by itself now and then, also when nothing wakes it."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """One server's share of the work: these steps, again and again."""

    def __init__(self, ctx: Context, steps: Sequence[Step]) -> None:
        self._ctx = ctx
        self._pace_s = pace_s(ctx.settings)
        self._stopping = asyncio.Event()
        self._away = False
        self._stuck: set[uuid.UUID] = set()
        self._loops = [_Loop(step) for step in steps for _ in range(step.copies)]
        self._loops.append(_Loop(Step("wake", self._wake_due, ()), paced=True))
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self, state: str) -> None:
        """A batch in `state` may be taken; "" when anything may have happened."""
        for loop in self._loops:
            if state == "" or state in loop.step.wakes_on:
                loop.woken.set()

    async def run(self) -> None:
        """Work until `drain`, or until cancelled."""
        async with asyncio.TaskGroup() as group:
            # A server that drains still renews the leases of what it finishes.
            rest = [
                group.create_task(
                    run_forever("renew", self._ctx.leases.renew, every_s=HEARTBEAT_S)
                ),
                group.create_task(
                    run_forever("keep_house", self.keep_house, every_s=HOUSEKEEPING_S)
                ),
            ]
            self._tasks = [group.create_task(self._turn(loop)) for loop in self._loops]
            await asyncio.wait(self._tasks)
            for task in rest:
                task.cancel()

    async def drain(self) -> None:
        """Finish what is in hand, at most DRAIN_S; what is cut off goes on at the next start."""
        self._stopping.set()
        self.wake("")
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in unfinished:
                task.cancel()

    async def _wake_due(self, ctx: Context) -> bool:
        """Wake the loops whose batches are due, and the one that looks whether the queue is."""
        self.wake(QUEUED)
        async with ctx.database.transaction() as conn:
            for state in await store.due_states(conn, ctx.now()):
                self.wake(state)
        return False

    async def _turn(self, loop: _Loop) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                busy = await self._call(loop.step)
            except LeaseLost as error:
                log.warning("lease_lost", step=loop.step.name, detail=str(error))
                busy = True
            except Exception as error:
                failures += 1
                await self._after_failure(loop, error, failures)
                continue
            failures = 0
            if self._away:
                self._away = False
                log.info("database_back")
            if not busy:
                await self._sleep(loop)

    async def _call(self, step: Step) -> bool:
        """One step, in a task of its own: what stops it (Leases.renew) must not stop the loop."""
        task = asyncio.ensure_future(step.run(self._ctx))
        try:
            await asyncio.wait((task,))
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        if task.cancelled():
            raise LeaseLost("stopped on its way out")
        return task.result()

    async def _after_failure(self, loop: _Loop, error: Exception, failures: int) -> None:
        if isinstance(error, DatabaseConflict):
            detail = str(error.__cause__).split("\n")[0]
            log.warning("transaction_undone", step=loop.step.name, detail=detail)
            most = OUTAGE_S_MAX
        elif isinstance(error, DatabaseUnavailable):
            if not self._away:
                self._away = True
                log.warning("database_away", detail=str(error.__cause__).split("\n")[0])
            most = OUTAGE_S_MAX
        else:
            log.error("step_failed", step=loop.step.name, exc_info=error)
            most = 60.0
        await self._sleep(loop, backoff_s(failures - 1, first=0.2, most=most))

    async def _sleep(self, loop: _Loop, seconds: float | None = None) -> None:
        """Until woken, or, after a failure, for `seconds` whatever happens."""
        paced = self._pace_s if loop.paced else None
        try:
            async with asyncio.timeout(paced if seconds is None else seconds):
                await (self._stopping if seconds is not None else loop.woken).wait()
        except TimeoutError:
            pass
        loop.woken.clear()

    async def keep_house(self) -> None:
        """Forget what is old, add up the counts, and tell of what stands still."""
        gone = FORGET_AT_ONCE
        while gone == FORGET_AT_ONCE:
            async with self._ctx.database.transaction() as conn:
                ttl_days = self._ctx.settings.result_ttl_days
                gone = await store.forget(conn, ttl_days, FORGET_AT_ONCE, self._ctx.now())
        async with self._ctx.database.transaction() as conn:
            await store.fold_tally(conn)
            await audit.forget(conn)
            stuck = await store.stuck_batches(conn, self._ctx.now())
        for batch in stuck:
            if batch.id not in self._stuck:  # once, not with each look
                log.error("batch_stuck", **asdict(batch))
        self._stuck = {batch.id for batch in stuck}
