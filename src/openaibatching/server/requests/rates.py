"""How many calls a second are let in. Pure: time is an argument, in seconds."""

from __future__ import annotations

import math

PAUSE_S_MAX = 60
"""The official SDKs keep to a Retry-After of up to a minute."""


class Rate:
    """`most` calls a second, of which those of a second that was not used may come at once."""

    __slots__ = ("_at", "_free", "_most", "_sent_back")

    def __init__(self, most: int, now: float) -> None:
        self._most, self._at = most, now
        self._free, self._sent_back = float(most), 0.0

    def pause_s(self, now: float) -> int:
        """0 for a call that may go on, else after how many seconds it shall come again.

        Those that are sent back do not come again all at once, but so many each second.
        """
        passed = (now - self._at) * self._most
        self._at = now
        self._free = min(self._most, self._free + passed)
        if self._free >= 1:
            self._free -= 1
            return 0
        self._sent_back = max(0.0, self._sent_back - passed) + 1
        return min(PAUSE_S_MAX, math.ceil(self._sent_back / self._most))
