"""What was executed, and so would have been paid: the witness of every crash test."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openaibatching.simulator.engine.canonical import body_sha256


@dataclass
class Usage:
    """Tokens, as the batch object adds them up."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    """In the usage of a single answer only: a batch's says nothing of them."""

    def add(self, other: "Usage") -> None:
        """Add another's tokens to these."""
        self.input_tokens += other.input_tokens
        self.cached_tokens += other.cached_tokens
        self.output_tokens += other.output_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.cache_write_tokens += other.cache_write_tokens

    def view(self) -> dict[str, object]:
        """In the shape and the order of the batch object's `usage`."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


class Ledger:
    """Counts by the SHA-256 of the canonical body. Every read first lets time catch up.

    executions: lines that were answered with a 2xx, paid whether or not the answer arrives.
    failures: lines that ended with 4xx, 5xx, status 0 or a timeout; not paid.
    spoiled: executions whose answer was destroyed on the way by a fault; a client can only
    send those again, so `count - spoiled` of a body should be at most 1.
    """

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._lock = threading.Lock()
        self._executed: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._spoiled: Counter[str] = Counter()
        self._usage = Usage()

    def execute(self, sha: str, usage: Usage) -> None:
        """Note one paid execution."""
        with self._lock:
            self._executed[sha] += 1
            self._usage.add(usage)

    def fail(self, sha: str) -> None:
        """Note one line that ended without an answer and without a price."""
        with self._lock:
            self._failed[sha] += 1

    def spoil(self, sha: str) -> None:
        """Note one paid answer that nobody will be able to read."""
        with self._lock:
            self._spoiled[sha] += 1

    def count(self, body: bytes | str | dict[str, Any]) -> int:
        """How often this body was executed."""
        return self.counts().get(body_sha256(body), 0)

    def counts(self) -> dict[str, int]:
        """Executions by digest."""
        return self._copy(self._executed)

    @property
    def failures(self) -> dict[str, int]:
        """Failed lines by digest."""
        return self._copy(self._failed)

    @property
    def spoiled(self) -> dict[str, int]:
        """Destroyed answers by digest."""
        return self._copy(self._spoiled)

    @property
    def lines(self) -> int:
        """Executed lines in total."""
        return sum(self.counts().values())

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens in total, in the batch object's shape."""
        self._settle()
        with self._lock:
            return self._usage.view()

    def _copy(self, counter: Counter[str]) -> dict[str, int]:
        self._settle()
        with self._lock:
            return dict(counter)
