"""The metrics that one process counts by itself; the others are read from the database.

A batch ends, is formed and is refused in one server only, so these may be added up over servers.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

EVENTS = Counter(
    "openaibatching_events", "Log lines by event since the start.", ["event"], registry=REGISTRY
)
UPSTREAM_ERRORS = Counter(
    "openaibatching_upstream_errors",
    "Calls to OpenAI that failed, by kind and HTTP status, since the start.",
    ["kind", "status"],
    registry=REGISTRY,
)
WRONG_KEYS = Counter(
    "openaibatching_wrong_keys",
    "Keys that were presented, by callers or on the page, and are none, since the start.",
    registry=REGISTRY,
)
# What an alarm waits for is there from the start: Prometheus sees a counter grow, but not appear.
for _event in ("batch_doubled", "lease_lost", "step_failed", "storing_failed", "handler_failed"):
    EVENTS.labels(_event)
for _status in ("401", "403"):
    UPSTREAM_ERRORS.labels("UpstreamDenied", _status)
UPSTREAM_LAST_SUCCESS = Gauge(
    "openaibatching_upstream_last_success_timestamp_seconds",
    "When a call to OpenAI last succeeded, as Unix time; 0 before the first.",
    registry=REGISTRY,
)
FORECAST_LAST_SUCCESS = Gauge(
    "openaibatching_forecast_last_success_timestamp_seconds",
    "When the forecast of completion times was last made anew, as Unix time; 0 before the first.",
    registry=REGISTRY,
)

_MINUTE, _HOUR = 60, 3600

QUEUE_WAIT = Histogram(
    "openaibatching_queue_wait_seconds",
    "For how long the oldest request of each batch had been queued when the batch was formed.",
    registry=REGISTRY,
    buckets=(1, 10, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR),
)
# Most batches take minutes; what OpenAI promises is 24 hours.
BATCH_DURATION = Histogram(
    "openaibatching_batch_duration_seconds",
    "How long OpenAI took for a batch, from its creation to its end, by how it ended.",
    ["status"],
    registry=REGISTRY,
    buckets=(
        *(_MINUTE * n for n in (1, 5, 15, 30)),
        *(_HOUR * n for n in (1, 2, 4, 8, 12, 18, 24, 25)),
    ),
)
BATCH_DURATION.labels("completed")

_REPLIES = Counter(
    "openaibatching_http_replies",
    "HTTP replies by status class, since the start.",
    ["status"],
    registry=REGISTRY,
)
# Looking a label up takes a lock and a dictionary; there is a reply for each call.
_BY_CLASS = {first: _REPLIES.labels(f"{first}xx") for first in range(2, 6)}


def reply(status: int) -> None:
    """Count an HTTP reply."""
    _BY_CLASS[status // 100].inc()
