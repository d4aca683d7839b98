"""How many wrong keys an address may present before it is slowed."""

from __future__ import annotations

from openaibatching.server.auth.wrong_keys import ADDRESSES_MAX, TRIES, TRY_S, Tries


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
