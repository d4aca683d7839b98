"""How far `estimated_completion_at` is off, on simulated days.

Batches of three models arrive at all hours, and OpenAI takes its time: longer for a larger batch,
by day than by night, and with a long tail, as people report it. The flow is the real one, step by
step on a clock that is turned; what is compared is what the server says when OpenAI has just taken
the batch, and when it ends. Beside it: the plain median of the model's batches so far.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import stack
from benchmarks.figure import Row, Sizes, check
from openaibatching.server.database.migrations import migrate
from openaibatching.server.database.pool import Database
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.reporting.forecaster import Forecaster
from openaibatching.simulator import Simulator, running
from support.steps import STEPS, chat, put
from support.world import settings_for

MODELS = {"gpt-4o-mini": 10 * 60, "gpt-4o": 25 * 60, "gpt-4.1": 40 * 60}
"""How many seconds a batch of 100 takes at a quiet hour."""


@dataclass(frozen=True)
class Scale:
    """How much is lived through: days, batches a day, and how many requests half of them have."""

    days: float = 8.0
    batches_a_day: int = 60
    requests: int = 20


SHORT = Scale(0.06, 1200, 2)
WARM = 10
"""The first batches of a model have no history to speak of."""
TICK = timedelta(minutes=1)
SPREAD, TAIL, TAIL_TIMES = 0.35, 0.04, 6.0
WITHIN = 0.5


@dataclass
class Told:
    """What was said of a batch, in seconds from its submission, and what came."""

    model: str
    said: float | None
    plain: float | None
    took: float = math.nan


def measure(sizes: Sizes) -> list[Row]:
    with stack.cluster() as postgres, postgres.database() as url:
        told = asyncio.run(_live(url, SHORT if sizes.short else Scale()))
    ended = [each for each in told if not math.isnan(each.took)]
    guessed = [each for each in _warm(ended) if each.said is not None]
    check(len(guessed) > len(ended) / 10, f"{len(guessed)} of {len(ended)} batches had a guess")
    ours = [abs((each.said or 0) - each.took) / each.took for each in guessed]
    plain = [abs((each.plain or 0) - each.took) / each.took for each in guessed]
    near = sum(error <= WITHIN for error in ours) / len(ours)
    detail = (
        f"{len(guessed)} batches of {len(MODELS)} models; {near:.0%} within {WITHIN:.0%}; "
        f"plain: {statistics.median(plain):.0%}"
    )
    median = statistics.median(ours)
    return [
        Row("estimated_completion_at: median error, of what was still to come",
            "the batch's true end", median, None, False, detail),
        Row("the same", "the plain median of the model's batches",
            median / statistics.median(plain), None, False, ""),
    ]  # fmt: skip


def _warm(told: list[Told]) -> Iterator[Told]:
    seen: defaultdict[str, int] = defaultdict(int)
    for each in told:
        seen[each.model] += 1
        if seen[each.model] > WARM:
            yield each


def _lag_s(model: str, requests: int, at: datetime, dice: random.Random) -> float:
    """How long OpenAI takes: an invention, in the manner of what users report."""
    day = 1 + 2 * max(0.0, math.sin((at.hour + at.minute / 60 - 8) / 24 * 2 * math.pi))
    tail = TAIL_TIMES if dice.random() < TAIL else 1.0
    size = (requests / 100) ** 0.4
    return float(MODELS[model] * size * day * tail * dice.lognormvariate(0, SPREAD))


async def _live(url: str, scale: Scale) -> list[Told]:
    dice, clock = random.Random(1), _Clock()
    await migrate(url, wait_s=10)
    simulator = Simulator(clock=lambda: clock.now.timestamp())
    with tempfile.TemporaryDirectory() as folder, running(simulator) as base_url:
        settings = settings_for(base_url, Path(folder), batch_linger_s=1.0, batch_poll_s=30.0)
        database = Database(url)
        await database.open()
        ctx = Context(settings, database, Upstream(settings), lambda: clock.now)
        world = _World(ctx, clock, simulator, Forecaster(database, 1.0), dice, scale)
        end = clock.now + timedelta(days=scale.days)
        while clock.now < end:
            await world.tick()
        await ctx.upstream.close()
        await database.close()
    return list(world.told.values())


class _Clock:
    """Begins at midnight, in the future: what is queued in real time has waited long enough."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(hour=0, minute=0, second=0) + timedelta(days=2)


class _World:
    def __init__(
        self, ctx: Context, clock: _Clock, simulator: Simulator, forecaster: Forecaster,
        dice: random.Random, scale: Scale,
    ) -> None:  # fmt: skip
        self._ctx, self._clock, self._simulator = ctx, clock, simulator
        self._forecaster, self._dice, self._scale = forecaster, dice, scale
        self._sizes = 0
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._submitted: dict[str, datetime] = {}
        self.told: dict[str, Told] = {}

    async def tick(self) -> None:
        """A minute: perhaps a batch arrives; every step is taken."""
        if self._dice.random() < self._scale.batches_a_day * TICK / timedelta(days=1):
            await self._arrive()
        for step in STEPS:
            while await step(self._ctx):
                pass
        await self._look()
        self._clock.now += TICK

    async def _arrive(self) -> None:
        model = self._dice.choice(list(MODELS))
        usual = math.log(self._scale.requests)
        requests = min(400, max(2, round(self._dice.lognormvariate(usual, 1.2))))
        self._sizes += 1
        await put(self._ctx, *(chat(f"{self._sizes} {n}", model) for n in range(requests)))
        self._simulator.lag = _lag_s(model, requests, self._clock.now, self._dice)

    async def _look(self) -> None:
        """Note what is said of new batches, and the ends of old ones."""
        known = {batch["id"]: batch for batch in self._simulator.batches()}
        new = [id_ for id_ in known if id_ not in self.told]
        if new:
            await self._forecaster.refresh()
        for id_ in new:
            model, now = known[id_]["model"], self._clock.now
            if model is None or id_ not in self._forecaster.forecast.under_way:
                continue
            end = self._forecaster.forecast.of_batch(id_, now)
            took = self._took[model]
            plain = statistics.median(took) if took else None
            self.told[id_] = Told(model, (end - now).total_seconds() if end else None, plain)
            self._submitted[id_] = now
        for id_, told in self.told.items():
            ended = known[id_].get("completed_at")
            if ended and math.isnan(told.took):
                told.took = max(1.0, ended - self._submitted[id_].timestamp())
                self._took[told.model].append(told.took)
