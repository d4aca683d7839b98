"""How many wrong keys an address may present before it is slowed."""

from __future__ import annotations

import asyncio

import pytest

from openaibatching.server.auth import wrong_keys
from openaibatching.server.auth.addresses import Address
from openaibatching.server.auth.wrong_keys import ADDRESSES_MAX, TRIES, TRY_S, Tries, WrongKeys
from openaibatching.server.database.pool import Database


def test_tries_come_back_with_time_and_each_address_has_its_own() -> None:
    tries = Tries()
    assert all(tries.take("a", 0.0) for _ in range(TRIES))
    assert not tries.take("a", 0.0)
    assert tries.take("b", 0.0)
    assert not tries.take("a", TRY_S - 0.1)
    assert tries.take("a", TRY_S)
    assert not tries.take("a", TRY_S)
    assert all(tries.take("a", 1e6) for _ in range(TRIES))


def test_many_addresses_are_not_tries_without_end_and_no_memory_without_end() -> None:
    tries = Tries()
    for n in range(ADDRESSES_MAX):
        assert tries.take(f"first {n}", 0.0)
    assert not any(tries.take(f"then {n}", 1.0) for n in range(2 * ADDRESSES_MAX))
    assert len(tries) == ADDRESSES_MAX
    assert tries.take("then 19999", 1.0 + 2 * TRY_S)


async def test_of_all_addresses_together_so_many_refusals_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wrong_keys, "HOLD_S", 100_000.0)
    monkeypatch.setattr(wrong_keys, "HELD_MAX", 5)
    monkeypatch.setattr(wrong_keys, "HELD_OF_ONE_MAX", 3)
    wrong = WrongKeys(Database("postgresql://127.0.0.1:1/none"))  # it is not asked

    async def note(name: str) -> bool:
        return await wrong.note(Address(name, name), "an id")

    async def closed(name: str) -> bool:
        """Whether the next refusal is not held, and closes its connection."""
        task = asyncio.create_task(note(name))
        await asyncio.sleep(0)
        return not task.cancel() and not task.result()

    for name in "abc":
        assert [await note(name) for _ in range(TRIES)] == [True] * TRIES
    held = [asyncio.create_task(note(name)) for name in "aaabb"]
    await asyncio.sleep(0)
    assert await closed("a"), "an address has its own bound"
    assert await closed("c"), "nothing of this address is held, and no more may be of all"
    held.pop().cancel()
    await asyncio.sleep(0)
    held.append(asyncio.create_task(note("c")))
    await asyncio.sleep(0)
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
