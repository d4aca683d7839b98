"""Executing one line: an answer, a refusal, or a fault, as bytes of a result file."""

import hashlib
import json
import secrets
import threading
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

from openaibatching.simulator.engine import answers
from openaibatching.simulator.engine.account import Standing
from openaibatching.simulator.engine.canonical import canonical, parse
from openaibatching.simulator.engine.errors import ApiError, error
from openaibatching.simulator.engine.ledger import Ledger, Usage
from openaibatching.simulator.engine.limits import Limits
from openaibatching.simulator.engine.semantics import refuse
from openaibatching.simulator.engine.unfinished import UNFINISHED, image_timeout, unfinished
from openaibatching.simulator.faults.faults import Dice
from openaibatching.simulator.faults.markers import IN_RESULT, Marker, Markers

NOT_EXECUTED = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "request_timeout": "The request timed out.",
}

# The faults that a draw can choose, and the marker that does the same.
_DRAWN = {
    "line_500": Marker("status", "500"),
    "line_429": Marker("status", "429"),
    "status_zero_line": Marker("status", "0"),
    "request_timeout_line": Marker("timeout"),
    "failed_response_line": Marker("failed"),
    "incomplete_response_line": Marker("incomplete"),
    "image_timeout_line": Marker("image_timeout"),
    "missing_line": Marker("missing"),
    "empty_body_line": Marker("empty"),
    "garbled_line": Marker("garbled"),
    "invalid_utf8_line": Marker("invalid_utf8"),
    "u2028_line": Marker("u2028"),
    "duplicate_line": Marker("duplicate"),
    "unknown_custom_id": Marker("unknown_custom_id"),
    "missing_custom_id": Marker("missing_custom_id"),
}
_SPOILING = frozenset(
    {"lost", "empty", "garbled", "invalid_utf8", "unknown_custom_id", "missing_custom_id"}
)
_STATUS_TEXTS = {
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", None),
    503: ("The server is overloaded or not ready yet.", "server_error", None),
}


@dataclass
class Result:
    """What a line leaves behind. `output` and `error` are the bytes for either file."""

    output: bytes = b""
    error: bytes = b""
    completed: int = 0
    failed: int = 0
    usage: Usage | None = None
    sha: str = ""
    postponed: str = ""
    """The code under which the line ends when it is never executed."""


def unexecuted(custom_id: str, code: str) -> bytes:
    """The error line of a request that did not run (batch guide)."""
    return _line(custom_id, None, {"code": code, "message": NOT_EXECUTED[code]})


def _line(custom_id: str, response: dict[str, Any] | None, failure: Any = None) -> bytes:
    document = {
        "id": f"batch_req_{secrets.token_hex(16)}",
        "custom_id": custom_id,
        "response": response,
        "error": failure,
    }
    return _written(document)


def _written(document: dict[str, Any]) -> bytes:
    # As recorded result files have it: ASCII with escapes, ", " and ": ".
    return json.dumps(document).encode("ascii") + b"\n"


def _response(status: int, body: Any) -> dict[str, Any]:
    # A bare UUID, as real files of 2026 have it; the documents show `req_…`.
    request_id = str(uuid.UUID(bytes=secrets.token_bytes(16))) if status else ""
    return {"status_code": status, "request_id": request_id, "body": body}


class Executor:
    """Executes lines one by one and writes the ledger."""

    def __init__(self, ledger: Ledger, markers: Markers, limits: Limits) -> None:
        self._ledger = ledger
        self._markers = markers
        self._limits = limits
        self._met: Counter[str] = Counter()
        self._lock = threading.Lock()

    def execute(
        self, endpoint: str, line: bytes, now: float, dice: Dice, standing: Standing
    ) -> Result:
        """Execute one valid input line at `now`, unix seconds, on the account as it stands."""
        request = parse(line)
        body, custom_id = request["body"], request["custom_id"]
        sha = hashlib.sha256(canonical(body)).hexdigest()
        if standing.account.outage_status:
            outage = Marker("status", str(standing.account.outage_status))
            return self._failure(custom_id, sha, outage)
        marker = self._markers.take(line, sha, IN_RESULT) or self._drawn(sha, dice)
        if marker is not None and marker.name in ("expired", "cancelled"):
            return Result(sha=sha, postponed=f"batch_{marker.name}")
        if marker is not None and marker.name == "missing":  # dropped: neither run nor counted
            return Result(sha=sha)
        if marker is not None and marker.name == "image_timeout":
            return self._refusal(custom_id, sha, image_timeout(marker.value))
        if marker is not None and marker.name in ("status", "timeout"):
            return self._failure(custom_id, sha, marker)
        try:
            refuse(endpoint, body, len(line), self._limits)
            no_credit = standing.spend()
            if no_credit is not None:
                raise no_credit
            document, usage = answers.answer(endpoint, body, sha, int(now))
        except ApiError as refusal:
            return self._refusal(custom_id, sha, refusal)
        except (TypeError, ValueError, AttributeError, LookupError, RecursionError):
            # A body of a shape nobody thought of is the caller's mistake, not a crash here.
            return self._refusal(custom_id, sha, ApiError(400, "Invalid request body."))
        paid: Usage | None = usage
        if marker is not None and marker.name in UNFINISHED:
            paid = unfinished(document, usage, marker)
        if paid is None:
            self._ledger.fail(sha)
        else:
            self._ledger.execute(sha, paid)
        output = _line(custom_id, _response(200, document))
        result = Result(output=output, completed=1, usage=paid, sha=sha)
        if marker is not None:
            self._spoil(result, marker.name, custom_id, document)
        return result

    def _drawn(self, sha: str, dice: Dice) -> Marker | None:
        if dice.spares(_DRAWN):
            return None
        with self._lock:
            self._met[sha] += 1
            of = f"{sha}:{self._met[sha]}"
        return next((marker for kind, marker in _DRAWN.items() if dice.hits(kind, of)), None)

    def _refusal(self, custom_id: str, sha: str, refusal: ApiError) -> Result:
        self._ledger.fail(sha)
        # In the error file `error` is null: the refusal sits in `response.body.error`.
        line = _line(custom_id, _response(refusal.status, refusal.body()))
        return Result(error=line, failed=1, sha=sha)

    def _failure(self, custom_id: str, sha: str, marker: Marker) -> Result:
        self._ledger.fail(sha)
        if marker.name == "timeout":
            line = unexecuted(custom_id, "request_timeout")
            return Result(error=line, failed=1, sha=sha)
        status = int(marker.value or 500)
        if status == 0:
            # Counted as completed, empty, and between the good ones (ellmer issue 830).
            line = _line(custom_id, _response(0, {}))
            return Result(output=line, completed=1, sha=sha)
        default = ("This request is refused.", "invalid_request_error", None)
        message, kind, code = _STATUS_TEXTS.get(status, default)
        body = {"error": error(message, kind, None, code)}
        return Result(error=_line(custom_id, _response(status, body)), failed=1, sha=sha)

    def _spoil(self, result: Result, name: str, custom_id: str, document: dict[str, Any]) -> None:
        if name in _SPOILING:
            self._ledger.spoil(result.sha)
        line = result.output
        if name == "lost":
            result.output = b""
        elif name == "empty":
            result.output = _line(custom_id, _response(200, {}))
        elif name == "garbled":
            result.output = line[: len(line) // 2] + b"\n"
        elif name == "invalid_utf8":
            result.output = _noted(line, b"\xff\xfe")
        elif name == "u2028":
            result.output = _noted(line, "one\u2028two\u2029three\x85four".encode())
        elif name == "duplicate":
            result.output = line + _line(custom_id, _response(200, document))
        elif name == "unknown_custom_id":
            result.output = _line(f"unknown-{secrets.token_hex(16)}", _response(200, document))
        elif name == "missing_custom_id":
            nobody = {"id": "batch_req_x", "response": _response(200, document)}
            result.output = _written(nobody)


def _noted(line: bytes, note: bytes) -> bytes:
    """The line with one more member inside the answer's body, whose value is these bytes."""
    return line.replace(b'"body": {', b'"body": {"simulated_note": "' + note + b'", ', 1)
