"""When an answer will be there: guessed from how long OpenAI took for batches like it. Pure.

The guess is the weighted median of the last batches of the same model, which a batch of like size,
sent at a like hour of the day, and lately, weighs more in. For a batch that runs already only those
count that took longer than it has by now. Where too few are left there is no guess: None.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from openaibatching.server.domain.request import Request

HISTORY_EACH = 200
"""So many batches of a model are looked at."""
PAST_MIN = 3
SIZE_SCALE = math.log(2)
HOUR_SCALE = 2.0
AGE_SCALE = 100.0
"""By a factor of e less weight: twice the size, two hours off, a hundred batches ago. On the days
of benchmarks/forecast.py other scales of this order are no better."""


@dataclass(frozen=True, slots=True)
class Past:
    """A batch that completed."""

    model: str
    requests: int
    submitted_at: datetime
    ended_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch that OpenAI works on."""

    upstream_id: str
    model: str
    requests: int
    submitted_at: datetime


@dataclass
class Forecast:
    """What was known at one moment; answers are kept, so asking often costs nothing."""

    past: dict[str, list[Past]] = field(default_factory=dict)
    under_way: dict[str, UnderWay] = field(default_factory=dict)
    held: Collection[str] = ()
    linger: timedelta = timedelta(0)
    _ends: dict[str, datetime | None] = field(default_factory=dict)
    _takes: dict[str, timedelta | None] = field(default_factory=dict)

    def of_batch(self, upstream_id: str, now: datetime) -> datetime | None:
        """When this batch will have ended; None if nobody can tell."""
        if upstream_id not in self._ends:
            batch = self.under_way.get(upstream_id)
            past = self.past.get(batch.model, ()) if batch else ()
            self._ends[upstream_id] = _end(batch, past, now) if batch else None
        end = self._ends[upstream_id]
        return end if end is None or end > now else None

    def of_queue(self, model: str, queued_at: datetime, now: datetime) -> datetime | None:
        """When a request that was queued then will be answered, if it is sent in its turn."""
        if model in self.held:
            return None
        if model not in self._takes:
            self._takes[model] = _takes(self.past.get(model, ()), now)
        takes = self._takes[model]
        return None if takes is None else max(now, queued_at + self.linger) + takes

    def of_request(self, request: Request, now: datetime) -> datetime | None:
        """When the request will be answered."""
        if request.finished:
            return None
        if request.batch_upstream_id is not None:
            return self.of_batch(request.batch_upstream_id, now)
        return self.of_queue(request.model, request.created_at, now)


def _end(batch: UnderWay, past: Sequence[Past], now: datetime) -> datetime | None:
    elapsed = now - batch.submitted_at
    weighed = [
        (p.ended_at - p.submitted_at, _weight(p, age, batch.requests, batch.submitted_at))
        for age, p in enumerate(past)
        if p.ended_at - p.submitted_at > elapsed
    ]
    took = _median(weighed) if len(past) >= PAST_MIN else None
    return None if took is None else batch.submitted_at + took


def _takes(past: Sequence[Past], now: datetime) -> timedelta | None:
    """How long it takes from the forming of a batch now, of the usual size, to its end."""
    if len(past) < PAST_MIN:
        return None
    size = sorted(p.requests for p in past)[len(past) // 2]
    return _median(
        [(p.ended_at - p.created_at, _weight(p, age, size, now)) for age, p in enumerate(past)]
    )


def _weight(past: Past, age: int, requests: int, at: datetime) -> float:
    size = abs(math.log(past.requests / requests)) / SIZE_SCALE
    apart = abs(_hour(past.submitted_at) - _hour(at))
    hours = min(apart, 24 - apart) / HOUR_SCALE
    return math.exp(-size - hours - age / AGE_SCALE)


def _hour(at: datetime) -> float:
    at = at.astimezone(UTC)
    return at.hour + at.minute / 60


def _median(weighed: Iterable[tuple[timedelta, float]]) -> timedelta | None:
    ordered = sorted(weighed)
    half = sum(weight for _, weight in ordered) / 2
    for took, weight in ordered:
        half -= weight
        if half <= 0:
            return took
    return None
