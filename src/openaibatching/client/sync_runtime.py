"""What differs between the two clients by more than `await`: here for threads."""

from time import sleep
from typing import Any

from openaibatching.client.coalescer_sync import Coalescer

__all__ = ["Coalescer", "http_client", "settle_in", "sleep"]


def http_client() -> Any:
    """The HTTP client of somebody who names none. None: the official client makes its own."""
    return None


def settle_in(_client: object) -> None:
    """The official client knows where it runs."""
