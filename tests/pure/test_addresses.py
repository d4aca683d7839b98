"""From which address a call comes, behind a proxy and without one."""

from __future__ import annotations

import pytest

from openaibatching.server.auth import addresses


@pytest.mark.parametrize(
    ("peer", "forwarded", "told", "network"),
    [
        ("198.51.100.9", [], "198.51.100.9", "198.51.100.9"),
        ("8.8.8.8", ["9.9.9.9"], "8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", ["9.9.9.9"], "9.9.9.9 via 127.0.0.1", "9.9.9.9"),
        ("10.0.0.2", ["1.1.1.1, 9.9.9.9"], "9.9.9.9 via 10.0.0.2", "9.9.9.9"),
        ("10.0.0.2", ["9.9.9.9", "1.1.1.1"], "1.1.1.1 via 10.0.0.2", "1.1.1.1"),
        ("10.0.0.2", ["9.9.9.9, "], "10.0.0.2", "10.0.0.2"),
        ("10.0.0.2", ["for=me\x1b[2J"], "10.0.0.2", "10.0.0.2"),
        ("::ffff:10.0.0.2", ["9.9.9.9"], "9.9.9.9 via 10.0.0.2", "9.9.9.9"),
        ("::1", ["2606:4700::1:2"], "2606:4700::1:2 via ::1", "2606:4700::/64"),
        ("fe80::1%eth0", [], "fe80::1", "fe80::/64"),
        ("2606:4700::1:2", [], "2606:4700::1:2", "2606:4700::/64"),
        ("a name", [], "unknown", "unknown"),
    ],
)
def test_the_nearest_proxy_says_it_and_no_public_address_does(
    peer: str, forwarded: list[str], told: str, network: str
) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    found = addresses.of({"client": (peer, 1), "headers": headers})
    assert found == (told, network)


def test_a_call_without_a_peer_has_no_address() -> None:
    assert addresses.of({"client": None, "headers": []}).told == "unknown"
    assert addresses.of({"headers": []}).told == "unknown"
