"""One call with `wait`: asked until there is a final answer, or the caller's deadline has passed.

A load balancer that gives up on a silent reply, a server that restarts, a name that is not resolved
for a while: none of them is the answer. The same call is the same request, so it is asked again.
Time is an argument: nothing here waits.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, NotGiven, Timeout

from openaibatching.client.coalescing import ENDPOINTS
from openaibatching.client.waiting import Hold, StillPending, retry_after

PAUSE_S_MIN, PAUSE_S_MAX = 0.5, 30.0
ASKED_PAUSE_S_MAX = 300.0
"""The longest pause that a `Retry-After` of the way is given."""

CUT_S_MIN = 1.0
"""A reply that breaks off earlier says nothing about how long one may be held."""
GROWTH, CEILING_SHARE, REMEMBERED_S = 1.25, 0.8, 3600.0

TELL_AFTER, TELL_EVERY_S = 3, 60.0

_FINAL_STATUSES = ("completed", "failed", "cancelled")
_NO_WAY_OUT = ("UnsupportedProtocol", "LocalProtocolError")
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")

_log = logging.getLogger("openaibatching")


@dataclass
class Way:
    """What a client and its copies have learned of the way to the server: how long a hold may be.

    A hold that is cut makes the next one half of what was reached. Holds that go through grow
    again, up to four fifths of the cut; after an hour the cut is forgotten.
    """

    longest_s: float = math.inf
    cut_s: float = math.inf
    cut_at: float = -math.inf
    told_at: float = -math.inf

    def allows(self, now: float) -> float:
        """The longest hold in seconds; less than 1 means none."""
        if now - self.cut_at > REMEMBERED_S:
            self.cut_s = math.inf
            return max(self.longest_s, 1.0)
        return self.longest_s

    def cut(self, reached_s: float, now: float) -> None:
        """A held reply was cut after so many seconds."""
        if reached_s < CUT_S_MIN:
            return
        self.cut_s = min(reached_s, self.cut_s)
        self.cut_at = now
        self.longest_s = min(self.longest_s, reached_s / 2)

    def held(self, seconds: int) -> None:
        """A hold of so many seconds went through."""
        if math.isfinite(self.longest_s) and seconds >= math.floor(self.longest_s):
            grown = min(self.longest_s * GROWTH, self.cut_s * CEILING_SHARE)
            self.longest_s = max(self.longest_s, grown)

    def tell(self, error: APIError, pause_s: float, now: float) -> None:
        """Say, at most once a minute, that the server has not been reached for a while."""
        if now - self.told_at < TELL_EVERY_S:
            return
        self.told_at = now
        why = error.__cause__ or error
        _log.warning("The batch server does not answer (%s); asking on in %.0f s", why, pause_s)


def passing(error: APIError) -> bool:
    """Whether an error is trouble of the way, and not the answer to the request."""
    if isinstance(error, APIStatusError):
        headers = error.response.headers
        if headers.get("x-batching-status") in _FINAL_STATUSES:
            return False
        said = headers.get("x-should-retry")
        if said in ("true", "false"):
            return said == "true"
        return error.status_code in (408, 425, 429) or error.status_code >= 500
    if not isinstance(error, APIConnectionError):
        return False
    names = [base.__name__ for base in type(error.__cause__).__mro__]
    if any(name in _NO_WAY_OUT for name in names):
        return False
    return isinstance(error, APITimeoutError) or "TransportError" in names or "OSError" in names


def _cuts_a_hold(error: APIError) -> bool:
    if isinstance(error, APIStatusError):
        return error.status_code in (408, 502, 503, 504, 520, 522, 524)
    names = [base.__name__ for base in type(error.__cause__).__mro__]
    return not any(name in _NOT_SENT for name in names)


def deadline(wait: bool | float, now: float) -> float:
    """When a call that begins `now` gives up: never with `True`, else after so many seconds."""
    return math.inf if wait is True else now + wait


class Patience:
    """One call that waits. `ask` before each try, `pause` after each one that was no answer."""

    def __init__(
        self,
        options: Any,
        default_timeout: float | Timeout | None,
        deadline: float,
        way: Way,
        jitter: Callable[[], float] = random,
    ) -> None:
        """`options` are the official ones of the request, `default_timeout` the client's own."""
        given = options.timeout
        self._timeout = default_timeout if isinstance(given, NotGiven) else given
        self._options, self._deadline, self._way, self._jitter = options, deadline, way, jitter
        self._safe = options.method.upper() == "GET" or options.url in ENDPOINTS
        self._failures = 0
        self._last: APIError | None = None
        self._hold = Hold(0, 0)

    def ask(self, now: float) -> Any:
        """The options of the next try. Raises the last error if the deadline has passed."""
        left = self._deadline - now
        if left <= 0 and self._last is not None:
            raise self._last
        timeout = capped(self._timeout, left)
        self._hold = Hold.within(timeout, now, self._way.allows(now))
        copied = self._options.model_copy()
        given = copied.headers
        copied.headers = self._hold.headers({} if isinstance(given, NotGiven) else given)
        copied.timeout = timeout
        if self._safe:
            copied.max_retries = 0  # this asks again itself: two at it would multiply
        return copied

    def pause(self, reply: APIError | StillPending, now: float) -> float:
        """Seconds until the next try, after a reply that is no answer. Raises a final one."""
        if isinstance(reply, StillPending):
            self._failures, self._last = 0, APITimeoutError(reply.request)
            pause = self._hold.pause(reply.headers, now)
            if pause == 0:
                self._way.held(self._hold.seconds)
        elif self._safe and passing(reply):
            self._last = reply
            pause = self._after(reply, now)
        else:
            raise reply
        return min(pause, max(0.0, self._deadline - now))

    def _after(self, error: APIError, now: float) -> float:
        if self._hold.seconds >= 1 and _cuts_a_hold(error):
            self._way.cut(now - self._hold.asked_at, now)
        self._failures += 1
        pause = math.ldexp(PAUSE_S_MIN, min(self._failures - 1, 10))
        pause = min(PAUSE_S_MAX, pause) * (0.5 + self._jitter() / 2)
        if isinstance(error, APIStatusError):
            asked = retry_after(error.response.headers, 0.0)
            pause = max(pause, min(asked, ASKED_PAUSE_S_MAX))
        if self._failures >= TELL_AFTER:
            self._way.tell(error, pause, now)
        return pause


def capped(timeout: float | Timeout | None, left: float) -> float | Timeout | None:
    """A timeout that leaves no try more than `left` seconds; itself where it already does."""
    left = max(left, 0.001)
    if math.isinf(left):
        return timeout
    if not isinstance(timeout, Timeout):
        return left if timeout is None else min(timeout, left)
    parts = (timeout.connect, timeout.read, timeout.write, timeout.pool)
    if all(part is not None and part <= left for part in parts):
        return timeout
    connect, read, write, pool = (left if part is None else min(part, left) for part in parts)
    return Timeout(connect=connect, read=read, write=write, pool=pool)
