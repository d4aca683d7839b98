"""From which address a call comes. Pure.

It is the address of the connection. Where that is not a public one, it may be a proxy's: then the
last of `X-Forwarded-For` counts, which the nearest proxy has written, and both are told. Whoever
reaches the port from such a network without the proxy can write what they like there. So nothing is
allowed by an address: it stands in the log and in the audit, and wrong keys are slowed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

UNKNOWN = "unknown"
NETWORK_BITS = 64
"""Of an IPv6 address: as much as one customer of a provider has at least."""

IPAddress = IPv4Address | IPv6Address


class Address(NamedTuple):
    """`told` is for people: `198.51.100.1`, or `198.51.100.1 via 10.0.0.2` behind a proxy.
    `network` has to be counted as one: an IPv4 address, or the /64 of an IPv6 address."""

    told: str
    network: str


def of(scope: Mapping[str, Any]) -> Address:
    """The address of an ASGI scope's caller; "unknown" where there is none."""
    client = scope.get("client")
    peer = _parsed(str(client[0])) if client else None
    if peer is None:
        return Address(UNKNOWN, UNKNOWN)
    forwarded = None if peer.is_global else _forwarded(scope)
    if forwarded is None:
        return Address(str(peer), _network(peer))
    return Address(f"{forwarded} via {peer}", _network(forwarded))


def _network(address: IPAddress) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, NETWORK_BITS), strict=False))
    return str(address)


def _forwarded(scope: Mapping[str, Any]) -> IPAddress | None:
    given = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return _parsed(given[-1].decode("latin-1").rpartition(",")[2].strip()) if given else None


def _parsed(text: str) -> IPAddress | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found
