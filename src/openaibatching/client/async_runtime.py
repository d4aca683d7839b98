"""What differs between the two clients by more than `await`: here for event loops."""

from functools import cache
from typing import Any

from anyio import sleep
from openai._base_client import Platform, get_platform

from openaibatching.client.coalescer_async import AsyncCoalescer
from openaibatching.client.loops import LoopsHttpClient

__all__ = ["AsyncCoalescer", "http_client", "settle_in", "sleep"]


def http_client() -> LoopsHttpClient:
    """The HTTP client of somebody who names none: it may be used in several event loops."""
    return LoopsHttpClient()


def settle_in(client: Any) -> None:
    """Tell the client where it runs. The official one asks in a thread, and with it each of a
    thousand calls that are its first."""
    client._platform = _platform()


@cache
def _platform() -> Platform:
    return get_platform()
