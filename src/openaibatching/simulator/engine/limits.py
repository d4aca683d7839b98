"""OpenAI's published limits, and a counter for those that are per time."""

import math
import threading
from collections import deque
from dataclasses import dataclass

# In the order in which OpenAI's refusal of another one names them.
ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
# In the order in which OpenAI's refusal of another one names them, as with the endpoints.
PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
DAY_S = 86400
EXPIRES_AFTER_MIN_S, EXPIRES_AFTER_MAX_S = 3600, 30 * DAY_S


@dataclass(frozen=True)
class Limits:
    """Sizes and counts (batch guide; API reference of POST /files)."""

    lines: int = 50_000
    batch_file_bytes: int = 209_715_200
    file_bytes: int = 512 * 1024 * 1024
    embedding_inputs: int = 50_000
    uploads_per_minute: int = 1000
    context_tokens: int = 128_000
    embedding_tokens: int = 8192
    """Of one input."""


class Window:
    """At most `most` events in any `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self._seconds = seconds
        self._events: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self, now: float) -> int | None:
        """None when the event may happen; else the whole seconds to wait."""
        with self._lock:
            while self._events and self._events[0] <= now - self._seconds:
                self._events.popleft()
            if len(self._events) < self.most:
                self._events.append(now)
                return None
            oldest = self._events[0] if self._events else now
            return max(1, math.ceil(oldest + self._seconds - now))
