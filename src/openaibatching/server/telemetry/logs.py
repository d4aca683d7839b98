"""What the operator is told: one structured line an event, each counted by its name.

`log = logs.get()`, then `log.warning("create_unknown", batch=…, …)`: the event's name is a plain
word, and what belongs to it are values with names of their own. docs/operations.md says of each
event what it means and what to do. No key, body or answer is ever a value: of OpenAI's errors only
their kind, status, code and parameter are logged (`said`), because their texts may quote a call.
Of any other error, where it happened and of which type it is (`_told`): PostgreSQL quotes the row
that it refuses, a parser the text that it stumbles over.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Literal

import structlog

from openaibatching.server.errors import ServerError, UpstreamError
from openaibatching.server.telemetry import counters

Format = Literal["text", "json"]
NAME = "openaibatching"

# Their own lines about each call would bury ours.
_NOISY = ("httpx", "httpx2", "openai", "opentelemetry", "psycopg.pool", "uvicorn")
# Errors whose words are our own, the system's, or about code: none of them quotes what was sent.
_PLAIN = (ServerError, OSError, TypeError, AttributeError, NameError)
_WORD = re.compile(r"[\w.\[\]-]{1,64}", re.ASCII)
DENIED = (401, 403)
HINT = "check OPENAI_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID"

Event = MutableMapping[str, Any]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request on whose behalf something is logged (api/http/reply_headers.py)."""


def get() -> Any:
    """The logger. Events are counted even where nobody reads the log."""
    return structlog.stdlib.get_logger(NAME)


def said(error: UpstreamError) -> dict[str, Any]:
    """What may be logged of an error of OpenAI's: `log.warning("…", **said(error))`.

    Without a status the words are our own or the network's, and `detail` has them.
    """
    found: dict[str, Any] = {"status": error.status}
    found |= {"code": _word(error.code), "param": _word(error.param)}
    if error.status is None:
        found["detail"] = error.message
    if error.status in DENIED:
        found["hint"] = HINT
    return {"error": type(error).__name__} | {k: v for k, v in found.items() if v is not None}


def trouble(error: UpstreamError) -> str:
    """The same in words, to stand behind "because": kept with the batch, and shown to people."""
    if error.status is None:
        return f"OpenAI was not reached: {error.message}"
    code = _word(error.code)
    hint = f" ({HINT})" if error.status in DENIED else ""
    return f"OpenAI answered {error.status}{f' {code}' if code else ''}{hint}"


def _word(text: str | None) -> str | None:
    return text if text and _WORD.fullmatch(text) else None


def configure(form: Format, level: str) -> None:
    """Write the log to stderr, this server's own lines and those of its libraries alike."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_told),
    ]
    renderers: list[structlog.typing.Processor] = [structlog.processors.JSONRenderer()]
    if form == "text":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False
        )
        renderers = [_on_one_line, console]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, _add_request_id, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # Of libraries only what is wrong: their finer lines quote what they send and read.
    logging.basicConfig(level="WARNING", handlers=[handler], force=True)
    logging.getLogger(NAME).setLevel(level.upper())
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    _use([*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter])


def _use(processors: list[structlog.typing.Processor]) -> None:
    structlog.configure(
        processors=[_count, structlog.stdlib.filter_by_level, _add_request_id, *processors],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _count(_logger: Any, _method: str, event: Event) -> Event:
    counters.EVENTS.labels(event["event"]).inc()
    return event


def _add_request_id(_logger: Any, _method: str, event: Event) -> Event:
    if (id_ := REQUEST_ID.get()) is not None:
        event.setdefault("request_id", id_)
    return event


def _first_line(_logger: Any, _method: str, event: Event) -> Event:
    """Of a library's line, its first: below it, asyncio for one shows an error with its words."""
    event["event"] = str(event["event"]).split("\n", 1)[0]
    return event


def _on_one_line(_logger: Any, _method: str, event: Event) -> Event:
    """Callers choose a model's name and a path: neither may look like a line of its own."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception" and not value.isprintable():
            event[name] = "".join(
                c if c.isprintable() else c.encode("unicode_escape").decode() for c in value
            )
    return event


def _told(exc_info: Any) -> str:
    """What may be logged of an error and of those behind it, the first cause first."""
    error: BaseException | None = exc_info[1]
    told: list[str] = []
    while error is not None:
        parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        told += [_told((None, part, None)) for part in parts]
        told.append("".join(traceback.format_tb(error.__traceback__)) + _name(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(reversed(told))


def _name(error: BaseException) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, _PLAIN) and not isinstance(error, UpstreamError):
        return f"{kind}: {error}"
    # psycopg's errors: SQLSTATE and the constraint say what it was.
    known = [getattr(error, "sqlstate", None), getattr(_diag(error), "constraint_name", None)]
    return " ".join([kind, *(word for word in known if word)])


def _diag(error: BaseException) -> Any:
    return getattr(error, "diag", None)


# For a server that is embedded in another program: that program's logging decides.
_use([structlog.stdlib.render_to_log_kwargs])
