"""How long a step waits before it tries again."""

from __future__ import annotations

import random

BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 300.0
_dice = random.Random()  # noqa: S311 - spreading load, not guarding secrets


def backoff_s(tries: int, *, first: float = BACKOFF_FIRST_S, most: float = BACKOFF_MAX_S) -> float:
    """Seconds to wait after `tries` failures: doubling, bounded, and with a fifth of jitter."""
    wait = min(most, first * 2.0 ** min(tries, 30))
    return jittered(wait)


def jittered(seconds: float) -> float:
    """Up to a fifth less, so that servers which failed together do not come back together."""
    return seconds * _dice.uniform(0.8, 1.0)
