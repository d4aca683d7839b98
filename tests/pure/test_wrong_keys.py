"""How many wrong keys an address may present before replies are held."""

from __future__ import annotations

from openaibatching.server.wrong_keys import ADDRESSES_MAX, TRIES, TRY_S, Tries, network


def test_an_address_has_some_tries_and_gets_new_ones() -> None:
    tries = Tries()
    assert all(tries.take("a", 0.0) for _ in range(TRIES))
    assert not tries.take("a", 0.0)
    assert tries.take("b", 0.0), "another address has its own"
    assert tries.take("a", TRY_S)
    assert not tries.take("a", TRY_S)
    assert all(tries.take("a", 1e6) for _ in range(TRIES))
    assert not tries.take("a", 1e6)


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    tries = Tries()
    for n in range(3 * ADDRESSES_MAX):
        tries.take(f"address {n}", 0.0)
    assert len(tries._spent) == ADDRESSES_MAX


def test_an_ipv6_subscriber_is_one_address() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") == "192.0.2.1" != network("192.0.2.2")
