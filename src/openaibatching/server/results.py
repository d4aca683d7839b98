"""What one line of a result file means for its request. Pure.

https://platform.openai.com/docs/api-reference/batch/request-output gives the line's shape; what
OpenAI was seen to write besides is in the comments.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass

import msgspec

from openaibatching.server import canonical, usage
from openaibatching.server.errors import error_object
from openaibatching.server.model import NO_TOKENS, Receipt, Result, Tokens, parse_request_id
from openaibatching.server.prices import PriceList

RETRYABLE_STATUSES = (408, 429)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


class _Reason(msgspec.Struct):
    code: object = None
    type: object = None


class _Answer(msgspec.Struct):
    id: object = None
    model: object = None
    usage: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    tool_usage: msgspec.Raw = msgspec.Raw()
    svg_usage: object = None
    error: msgspec.Raw = msgspec.Raw()


_line = msgspec.json.Decoder(_Line)
_answer = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request in one sending.

    `retryable`: worth another sending. `real`: there was an HTTP error, which a caller wants
    to hear rather than that a later sending came to nothing. `answer` and `status_code` are
    what the caller gets if this is the end of it. `tokens` and `receipt` (None where the price is
    not known) are the answer's; `code` is OpenAI's reason for a failure.
    """

    id: uuid.UUID
    completed: bool
    status_code: int
    answer: bytes
    retryable: bool = False
    real: bool = True
    upstream_id: str | None = None
    tokens: Tokens = NO_TOKENS
    receipt: Receipt | None = None
    code: str = ""


class BrokenLine(ValueError):
    """A line that is not what OpenAI documents: garbled, cut off, or without a custom_id."""


def read_line(line: bytes, model: str = "", prices: PriceList | None = None) -> Outcome | None:
    """The outcome that a line tells; None for a custom_id that is none of ours.

    `model` gives the price of an answer that does not name its own, or names one that has no
    price. Without `prices` there are no receipts.

    Raises BrokenLine.
    """
    try:
        line.decode("utf-8")  # msgspec does not look inside the parts that it leaves raw
        parsed, body = _parse(line)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise BrokenLine(str(error)) from None
    id_ = parse_request_id(parsed.custom_id)
    if id_ is None:
        return None
    if parsed.response is None:
        return _not_executed(id_, parsed.error)
    status = parsed.response.status_code
    if not 0 <= status <= 599:
        raise BrokenLine(f"no HTTP status: {status}")
    filled = body.startswith(b"{") and body.strip(b"{} \t\r\n") != b""
    if 200 <= status < 300 and filled:
        return _answered(id_, body, model, prices)
    if status < 400 or not filled:
        # Seen: status_code 0 with an empty body, or 200 with an empty body.
        retryable = status < 400 or _retryable(status)
        return missing(id_) if retryable else _made(id_, status, None, None)
    return Outcome(id_, False, status, body, retryable=_retryable(status), code=_code(body))


def _parse(line: bytes) -> tuple[_Line, bytes]:
    """The line, and its response's body just as it stands there."""
    try:
        parsed = _line.decode(line)
        return parsed, bytes(parsed.response.body) if parsed.response else b""
    except msgspec.DecodeError:
        # A lone surrogate is valid JSON (RFC 8259, 8.2) and msgspec refuses it: read the line
        # with a letter in its place, and cut the body out of the real one.
        readable = canonical.without_surrogates(line)
        if readable == line:
            raise
    parsed = _line.decode(readable)
    body = bytes(parsed.response.body) if parsed.response else b""
    start = readable.find(body)
    return parsed, line[start : start + len(body)]


def _retryable(status: int) -> bool:
    return status >= 500 or status in RETRYABLE_STATUSES


def _answered(id_: uuid.UUID, body: bytes, model: str, prices: PriceList | None) -> Outcome:
    answer = _members(body)
    named = answer.model if isinstance(answer.model, str) and answer.model else model
    used = usage.read(answer.usage)
    if used is not None and (answer.tool_usage or b'_call"' in body):
        used = usage.with_tools(used, answer.output, answer.tool_usage)
    if used is not None and answer.svg_usage is not None:  # tokens of another model
        used = msgspec.structs.replace(used, incomplete=True)
    return Outcome(
        id_,
        True,
        200,
        body,
        upstream_id=_usable(answer.id),
        tokens=NO_TOKENS if used is None else used.tokens,
        receipt=None if prices is None else prices.receipt(used, named, model),
    )


def _members(body: bytes) -> _Answer:
    try:
        return _answer.decode(canonical.without_surrogates(body))
    except (msgspec.DecodeError, RecursionError):
        return _Answer()


def _usable(id_: object) -> str | None:
    # Long ids would not fit the index that finds a request by them; OpenAI's have 40 to 60.
    return id_ if isinstance(id_, str) and len(id_) < 256 and "\0" not in id_ else None


def _code(body: bytes) -> str:
    """The code of an error's body, or else its type, as far as it can be one."""
    try:
        error = msgspec.json.decode(_members(body).error or b"{}", type=_Reason)
    except (msgspec.DecodeError, RecursionError):
        return ""
    code = error.code or error.type
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


_NOT_EXECUTED = {
    "batch_expired": "OpenAI did not execute this request before its batch expired.",
    "batch_cancelled": "The batch was cancelled before OpenAI executed this request.",
    "request_timeout": "OpenAI's own call to the model timed out.",
}


def _not_executed(id_: uuid.UUID, error: _Error | None) -> Outcome:
    code = (error and error.code) or ""
    code = {"batch_canceled": "batch_cancelled"}.get(code, code)
    if code == "request_timeout":
        return _made(id_, 504, code, _NOT_EXECUTED[code], retryable=True)
    if code == "batch_cancelled":
        # To the caller that is the same as an expired one: out of time, not refused.
        return _made(id_, 504, "batch_expired", _NOT_EXECUTED[code], retryable=True, real=False)
    if code == "batch_expired":
        return _made(id_, 504, code, _NOT_EXECUTED[code], retryable=True, real=False)
    # Seen: an expired batch whose lines hold a server error's text instead of a code.
    message = (error and error.message) or None
    return _made(id_, 502, "result_missing", message, retryable=True, real=False)


def missing(id_: uuid.UUID) -> Outcome:
    """The outcome of a request whose line never came, or came empty."""
    return _made(id_, 502, "result_missing", None, retryable=True, real=False)


def expired(id_: uuid.UUID) -> Outcome:
    """The outcome of a request whose batch ended early and does not mention it."""
    return _not_executed(id_, _Error(code="batch_expired"))


def refused(id_: uuid.UUID, code: str | None, message: str | None, param: str | None) -> Outcome:
    """The outcome of a request that OpenAI's validation refused."""
    error = error_object(
        message or "OpenAI refused this request.",
        "invalid_request_error",
        param,
        code or "invalid_request",
    )
    body = json.dumps({"error": error}).encode()
    return Outcome(id_, False, 400, body, code=_code(body))


def _made(
    id_: uuid.UUID,
    status: int,
    code: str | None,
    message: str | None,
    *,
    retryable: bool = False,
    real: bool = True,
) -> Outcome:
    text = message or "OpenAI gave no answer to this request."
    type_ = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": error_object(text, type_, None, code)}
    return Outcome(id_, False, status, json.dumps(body).encode(), retryable, real, code=code or "")


def settle(outcome: Outcome, attempts: int, attempts_max: int, earlier: int | None) -> Result:
    """The row that an outcome becomes: finished, or queued again while attempts are left.

    `earlier` is the status of a real failure in an earlier sending, whose answer is stored:
    it is kept when this sending only came to nothing.
    """
    if outcome.completed:
        return Result(
            outcome.id,
            "completed",
            outcome.status_code,
            outcome.answer,
            outcome.upstream_id,
            outcome.tokens,
            outcome.receipt,
        )
    again = outcome.retryable and attempts < attempts_max
    state = "queued" if again else "failed"
    if outcome.real or (not again and earlier is None):
        return Result(outcome.id, state, outcome.status_code, outcome.answer, code=outcome.code)
    # Of an earlier failure only the status is known here, and that is what the caller hears.
    return Result(outcome.id, state, None, None, code="" if earlier else outcome.code)
