"""A record of the HTTP calls that arrived."""

import threading
from collections import Counter, deque
from dataclasses import dataclass

KEPT_MAX = 100_000


@dataclass(frozen=True)
class Call:
    """One call. `template` is the route without `/v1`, such as `/batches/{id}`."""

    at: float
    method: str
    template: str
    path: str
    retry: int
    """The SDK's `x-stainless-retry-count`."""
    key: str
    """The API key that was presented: which of several clients it was."""


class Calls:
    """All calls by (method, template); the latest of them one by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._latest: deque[Call] = deque(maxlen=KEPT_MAX)

    def add(self, call: Call) -> None:
        """Note a call as it arrives."""
        with self._lock:
            self._counts[call.method, call.template] += 1
            self._latest.append(call)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How often each route was called."""
        with self._lock:
            return dict(self._counts)

    def count(self, route: str) -> int:
        """How often one route was called: `count("POST /batches")`."""
        method, _, template = route.partition(" ")
        return self.counts.get((method, template), 0)

    @property
    def latest(self) -> list[Call]:
        """The last calls, oldest first."""
        with self._lock:
            return list(self._latest)

    def clear(self) -> None:
        """Start counting anew."""
        with self._lock:
            self._counts.clear()
            self._latest.clear()
