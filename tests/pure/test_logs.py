"""What of an error may be logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
import pytest
import structlog

from openaibatching.server.errors import UpstreamRefused, UpstreamUnknown
from openaibatching.server.telemetry import logs

SECRET = "what somebody asked"


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is one for the whole process: leave it as it was."""
    loggers = [logging.getLogger(name) for name in (None, logs.NAME, *logs._NOISY)]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    config = structlog.get_config()
    yield
    structlog.configure(**config)
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def logged(error: Exception, capsys: pytest.CaptureFixture[str], form: logs.Format) -> str:
    """What the log says of it, as an event of ours and as a library's line."""
    logs.configure(form, "debug")
    logs.get().error("step_failed", exc_info=error, model="m\n\x1b[1mforged\u2028")
    logging.getLogger("asyncio").error("Task failed\nfuture: %s", SECRET, exc_info=error)
    logging.getLogger("httpcore").debug(SECRET)
    return capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "error",
    [
        raised(psycopg.errors.CheckViolation(f"refused\nDETAIL: ({SECRET}\n{SECRET})")),
        raised(ValueError(SECRET)),
        raised(KeyError(SECRET)),
        raised(UpstreamRefused(SECRET, status=400)),
        raised(OSError(28, "No space"), raised(ValueError(SECRET))),
        raised(ExceptionGroup(SECRET, [raised(ValueError(SECRET)), raised(TypeError("int"))])),
    ],
)
def test_where_and_what_kind_is_told_but_no_words(
    error: Exception, form: logs.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    told = logged(error, capsys, form)
    assert SECRET not in told
    assert told.count(type(error).__name__) >= 2
    assert "test_logs.py" in told
    assert all("step_failed" in line for line in told.splitlines() if "forged" in line)
    assert "\x1b" not in told


def test_what_the_system_says_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No space left" in logged(raised(OSError(28, "No space left")), capsys, "text")


def test_of_openais_errors_only_plain_words_are_told() -> None:
    error = UpstreamUnknown(SECRET, status=500, code=SECRET, param="messages[0].content")
    assert logs.said(error) == {
        "error": "UpstreamUnknown", "status": 500, "param": "messages[0].content",
    }  # fmt: skip
