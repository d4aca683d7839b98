"""Prometheus text: what the database says of all servers, and what this process has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from openaibatching.server import journal
from openaibatching.server.config import UPSTREAM_CREATES_PER_HOUR
from openaibatching.server.model import BATCH_STATES, REQUEST_STATES, Stuck

CONTENT_TYPE = CONTENT_TYPE_LATEST

_TALLIES = (
    ("request", "openaibatching_requests", "Requests by status.", REQUEST_STATES),
    ("batch", "openaibatching_batches", "Batches by status.", BATCH_STATES),
)


@dataclass(frozen=True, slots=True)
class Look:
    """What the database says now; cheap to ask, however many rows are stored.

    `tally` counts by ("request" or "batch", state); `token_limits` are by model.
    """

    tally: Mapping[tuple[str, str], int]
    oldest_queued_s: float
    stuck: Sequence[Stuck]
    creates_last_hour: int
    token_limits: Mapping[str, int]


class _Look(Collector):
    def __init__(self, look: Look, version: str) -> None:
        self._look, self._version = look, version

    def collect(self) -> Iterable[Metric]:
        look = self._look
        for what, name, text, states in _TALLIES:
            yield _labelled(name, text, "status", {s: look.tally.get((what, s), 0) for s in states})
        yield GaugeMetricFamily(
            "openaibatching_queue_oldest_seconds",
            "For how long the oldest queued request has waited.",
            value=look.oldest_queued_s,
        )
        stuck = Counter(batch.state for batch in look.stuck)
        yield _labelled(
            "openaibatching_stuck_batches",
            "Batches that have stood in one status for longer than anything explains.",
            "status",
            {state: stuck[state] for state in BATCH_STATES if state != "closed"},
        )
        yield GaugeMetricFamily(
            "openaibatching_creations_last_hour",
            f"Batches created in the last hour; OpenAI takes {UPSTREAM_CREATES_PER_HOUR}.",
            value=look.creates_last_hour,
        )
        yield _labelled(
            "openaibatching_token_limit",
            "The enqueued-token limit that is kept, learned from OpenAI, by model.",
            "model",
            look.token_limits,
        )
        yield InfoMetricFamily(
            "openaibatching_build", "The running program.", value={"version": self._version}
        )


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        gauge.add_metric([value], number)
    return gauge


def render(look: Look, version: str) -> bytes:
    """The metrics page."""
    registry = CollectorRegistry()
    registry.register(_Look(look, version))
    return generate_latest(registry) + generate_latest(journal.REGISTRY)
