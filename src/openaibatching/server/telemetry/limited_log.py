"""Log lines that strangers or an outage could make without end: one in a while, with a count."""

from __future__ import annotations

import time
from collections.abc import Callable

from openaibatching.server.telemetry import counters

EVERY_S = 10.0


class Sparing:
    """Says when an event is due for a line again. Each counts in the metrics, logged or not."""

    def __init__(
        self, event: str, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`event` is the name that it is logged by."""
        self._event, self._every_s, self._clock = event, every_s, clock
        self._logged_at = float("-inf")
        self._unlogged = 0

    def times(self) -> int:
        """How often it has happened since its last line, this time included, if a line is due now;
        else 0, and this time is kept for the next line."""
        self._unlogged += 1
        now = self._clock()
        if now - self._logged_at < self._every_s:
            counters.EVENTS.labels(self._event).inc()
            return 0
        times, self._unlogged, self._logged_at = self._unlogged, 0, now
        return times
