"""What the operator is told: one structured line an event, each counted by its name.

`log = journal.get()`, then `log.warning("create_unknown", batch=…, …)`: the event's name is a plain
word, and what belongs to it are values with names of their own. docs/operations.md says of each
event what it means and what to do. No key, body or answer is ever a value: of OpenAI's errors only
their kind, status, code and parameter are logged (`said`), because their texts may quote a call.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from openaibatching.server.errors import UpstreamError

Format = Literal["text", "json"]

REGISTRY = CollectorRegistry()
"""The metrics that this process counts by itself; the others are read from the database."""

_EVENTS = Counter(
    "openaibatching_events", "Log lines by event since the start.", ["event"], registry=REGISTRY
)
UPSTREAM_ERRORS = Counter(
    "openaibatching_upstream_errors",
    "Calls to OpenAI that failed, by kind and HTTP status, since the start.",
    ["kind", "status"],
    registry=REGISTRY,
)
UPSTREAM_LAST_SUCCESS = Gauge(
    "openaibatching_upstream_last_success_timestamp_seconds",
    "When a call to OpenAI last succeeded, as Unix time; 0 before the first.",
    registry=REGISTRY,
)
# Their own lines about each call would bury ours.
_NOISY = ("httpx", "httpx2", "openai", "psycopg.pool", "uvicorn")
# What PostgreSQL adds to an error may quote a row.
_QUOTING = re.compile(r"\n(DETAIL|CONTEXT|QUERY|STATEMENT): .*")

Event = MutableMapping[str, Any]


def get() -> Any:
    """The logger. Events are counted even where nobody reads the log."""
    return structlog.stdlib.get_logger("openaibatching")


def said(error: UpstreamError) -> dict[str, Any]:
    """What may be logged of an error of OpenAI's: `log.warning("…", **said(error))`.

    Without a status the words are our own or the network's, and `detail` has them.
    """
    found = {"status": error.status, "code": error.code, "param": error.param}
    if error.status is None:
        found["detail"] = error.message
    if error.status in (401, 403):
        found["hint"] = "check OPENAI_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID"
    return {"error": type(error).__name__} | {k: v for k, v in found.items() if v is not None}


def configure(form: Format, level: str) -> None:
    """Write the log to stderr, this server's own lines and those of its libraries alike."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_rows,
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form == "text":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False
        )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    _use([*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter])


def _use(processors: list[structlog.typing.Processor]) -> None:
    structlog.configure(
        processors=[_count, structlog.stdlib.filter_by_level, *processors],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _count(_logger: Any, _method: str, event: Event) -> Event:
    _EVENTS.labels(event["event"]).inc()
    return event


def _without_rows(_logger: Any, _method: str, event: Event) -> Event:
    if "exception" in event:
        event["exception"] = _QUOTING.sub("", event["exception"])
    return event


# For a server that is embedded in another program: that program's logging decides.
_use([structlog.stdlib.render_to_log_kwargs])
