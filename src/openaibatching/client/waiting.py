"""`wait=True`: how long the server is asked to hold a reply, and how long to pause before the next.

The server holds a reply for as long as `Prefer: wait=N` asks (RFC 7240) and then answers 202 if the
request is not finished; the client asks again, for as long as it takes. Asking again is safe: the
same call is the same request.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai import Timeout

SERVER_MAX_S = 600
"""The longest hold that the server's default `WAIT_S_MAX` allows."""

READ_TIMEOUT_SHARE = 0.9
"""The part of the read timeout that a hold may take; the rest is for the way there and back."""

DEFAULT_PAUSE_S = 5.0


class StillPending(Exception):  # not an error: it never leaves the client
    """The server answered 202 to a client that waits."""

    def __init__(self, reply: Any) -> None:
        """`reply` is the 202."""
        super().__init__("the request is not finished")
        self.headers: Mapping[str, str] = reply.headers
        self.request = reply.request


@dataclass(frozen=True)
class Hold:
    """One question to the server: since when, and for how many seconds, it may hold the reply."""

    asked_at: float
    seconds: int

    @classmethod
    def within(
        cls, read_timeout: float | Timeout | None, now: float, allowed: float = math.inf
    ) -> "Hold":
        """The longest hold that a client with this read timeout can sit through, and that the way
        allows, both in seconds."""
        timeout = read_timeout.read if isinstance(read_timeout, Timeout) else read_timeout
        own = math.inf if timeout is None else timeout * READ_TIMEOUT_SHARE
        return cls(now, math.floor(min(SERVER_MAX_S, own, allowed)))

    def headers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` with our preference, unless the caller has one of their own."""
        if self.seconds < 1 or any(name.lower() == "prefer" for name in given):
            return dict(given)
        return {**given, "Prefer": f"wait={self.seconds}"}

    def pause(self, headers: Mapping[str, str], now: float) -> float:
        """Seconds to pause after a 202 with these headers.

        None after a reply that was held for the whole time; otherwise, as from a server that
        ignores the preference or is about to stop, whatever is left of `Retry-After`.
        """
        held = now - self.asked_at
        if self.seconds >= 1 and held >= self.seconds * READ_TIMEOUT_SHARE:
            return 0.0
        return max(0.0, retry_after(headers) - held)


def retry_after(headers: Mapping[str, str], default: float = DEFAULT_PAUSE_S) -> float:
    """The seconds that `Retry-After` names; `default` if it names none."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return default
    return seconds if 0 < seconds < math.inf else default
