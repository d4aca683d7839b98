"""Large work makes room for single calls while there are some."""

from __future__ import annotations

import asyncio

import pytest

from openaibatching.server.database.bulk_throttle import CALLED_S, SMALLER, Turns


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def at_once(turns: Turns, parts: int = 3) -> int:
    """How many parts are done side by side, of some that come together and all end."""
    doing = most = 0

    async def do() -> None:
        nonlocal doing, most
        async with turns.take():
            doing += 1
            most = max(most, doing)
            for _ in range(parts):
                await asyncio.sleep(0)  # the others would begin now
            doing -= 1

    await asyncio.gather(*(do() for _ in range(parts)))
    return most


async def test_while_nobody_calls_parts_are_whole_and_side_by_side() -> None:
    turns = Turns()
    assert turns.part(1000) == 1000
    assert await at_once(turns) == 3


async def test_while_somebody_calls_parts_are_smaller_and_one_after_the_other() -> None:
    turns = Turns(Clock())
    turns.called()
    assert turns.part(1000) == 1000 // SMALLER
    assert turns.part(1) == 1
    assert await at_once(turns) == 1


async def test_a_while_after_the_last_call_it_is_as_before() -> None:
    clock = Clock()
    turns = Turns(clock)
    turns.called()
    clock.now += CALLED_S
    assert turns.part(1000) == 1000
    assert await at_once(turns) == 3


async def test_a_part_that_fails_gives_its_turn_away() -> None:
    turns = Turns(Clock())
    turns.called()
    with pytest.raises(ConnectionError):
        async with turns.take():
            raise ConnectionError
    async with asyncio.timeout(10):
        assert await at_once(turns) == 1
