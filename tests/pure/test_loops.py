"""A loop in the background goes on whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from openaibatching.server.database.loops import run_forever
from openaibatching.server.errors import DatabaseUnavailable
from support.deadline import DEADLINE_S


class Work:
    """Fails with each of `errors` in turn, and is done once they are used up."""

    def __init__(self, *errors: Exception, after: Callable[[], None] = lambda: None) -> None:
        self._errors = list(errors)
        self._after = after
        self.done = asyncio.Event()

    async def do(self) -> None:
        if self._errors:
            self._after()
            raise self._errors.pop(0)
        self.done.set()


async def finished(work: Work, woken: asyncio.Event | None, every_s: float | None) -> None:
    loop = asyncio.create_task(run_forever("test", work.do, woken=woken, every_s=every_s))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await work.done.wait()
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_a_mistake_in_one_turn_does_not_end_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    woken = asyncio.Event()
    woken.set()
    await finished(Work(ValueError("a mistake"), after=woken.set), woken, None)
    assert [record.getMessage() for record in caplog.records].count("step_failed") == 1


async def test_while_the_database_is_away_it_is_tried_again_without_being_woken_and_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    woken = asyncio.Event()
    woken.set()
    await finished(Work(DatabaseUnavailable(), DatabaseUnavailable()), woken, None)
    assert caplog.records == []


async def test_without_anybody_who_wakes_it_the_time_does() -> None:
    await finished(Work(ValueError("once")), None, 0.001)
