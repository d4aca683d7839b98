"""Prometheus text: how many requests and batches are in which state."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from openaibatching.server.model import BATCH_STATES, REQUEST_STATES

CONTENT_TYPE = CONTENT_TYPE_LATEST

_GAUGES = (
    ("request", "openaibatching_requests", "Requests by status.", REQUEST_STATES),
    ("batch", "openaibatching_batches", "Batches by status.", BATCH_STATES),
)


class _Tally(Collector):
    def __init__(self, tally: dict[tuple[str, str], int], oldest_queued_s: float) -> None:
        self._tally, self._oldest_queued_s = tally, oldest_queued_s

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for what, name, text, states in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["status"])
            for state in states:
                gauge.add_metric([state], self._tally.get((what, state), 0))
            yield gauge
        yield GaugeMetricFamily(
            "openaibatching_queue_oldest_seconds",
            "For how long the oldest queued request has waited; far above BATCH_LINGER_S, batches "
            "are not being made: see the log.",
            value=self._oldest_queued_s,
        )


def render(tally: dict[tuple[str, str], int], oldest_queued_s: float) -> bytes:
    """The metrics page, from what store.read_tally and store.oldest_queued_s say."""
    registry = CollectorRegistry()
    registry.register(_Tally(tally, oldest_queued_s))
    return generate_latest(registry)
