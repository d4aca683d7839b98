"""What one line of a result file means for its request. Pure.

https://platform.openai.com/docs/api-reference/batch/request-output gives the line's shape; what
OpenAI was seen to write besides is in the comments.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, replace

import msgspec

from openaibatching.server.billing.prices import PriceList
from openaibatching.server.domain import canonical_json, usage
from openaibatching.server.domain.request import Receipt, parse_request_id
from openaibatching.server.domain.tokens import NO_TOKENS, Tokens
from openaibatching.server.errors import error_object
from openaibatching.server.providers.openai.reasons import Cause, cause

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OWNER = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_]{1,64})"')
_INVALID = "invalid_request_error"
_STATUS_OF = {"server_error": 500, "vector_store_timeout": 500, "rate_limit_exceeded": 429}
"""The HTTP status that each code of a failed Response has where it is an error of its own."""
_LOST = (
    "OpenAI counts this request as executed, and no result file has its answer. It is not sent "
    "again by itself, because that is paid again. It can be retried."
)


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
    param: object = None
    message: object = None


class _Answer(msgspec.Struct):
    id: object = None
    kind: object = msgspec.field(default=None, name="object")
    status: object = None
    model: object = None
    usage: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    tool_usage: msgspec.Raw = msgspec.Raw()
    svg_usage: object = None
    error: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct):
    finish_reason: object = None


class _Ending(msgspec.Struct):
    status: object = None
    choices: list[_Choice] = []


_line = msgspec.json.Decoder(_Line)
_answer = msgspec.json.Decoder(_Answer)
_ending = msgspec.json.Decoder(_Ending)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request in one sending.

    `retryable`: worth another sending, after a pause if the trouble is `passing`. `real`: there was
    an HTTP error, which a caller wants to hear rather than that a later sending came to nothing.
    `account`: it is the account's trouble, so it goes again without an attempt, when that is over.
    `executed`: OpenAI has tried it. `answer` and `status_code` are what the caller gets if this is
    the end of it. `tokens` and `receipt` (None where the price is not known) are the
    answer's; `code` is OpenAI's reason for a failure.
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
    passing: bool = False
    account: bool = False
    executed: bool = True


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
        found = cause(status=status) if status >= 400 else Cause.PASSING
        if found is Cause.PASSING:
            return replace(missing(id_), passing=True)
        return _made(id_, status, None, None, account=found is Cause.ACCOUNT)
    return _failed(id_, status, body)


def _parse(line: bytes) -> tuple[_Line, bytes]:
    """The line, and its response's body just as it stands there."""
    try:
        parsed = _line.decode(line)
        return parsed, bytes(parsed.response.body) if parsed.response else b""
    except msgspec.DecodeError:
        # A lone surrogate is valid JSON (RFC 8259, 8.2) and msgspec refuses it: read the line
        # with a letter in its place, and cut the body out of the real one.
        readable = canonical_json.without_surrogates(line)
        if readable == line:
            raise
    parsed = _line.decode(readable)
    body = bytes(parsed.response.body) if parsed.response else b""
    start = readable.find(body)
    return parsed, line[start : start + len(body)]


def owner(line: bytes) -> uuid.UUID | None:
    """Whose a line is that `read_line` could not read; None where it does not say."""
    found = _OWNER.search(line)
    return parse_request_id(found[1].decode()) if found else None


def _failed(id_: uuid.UUID, status: int, body: bytes) -> Outcome:
    """A failure with OpenAI's own body. Its reason decides what follows, not its status alone."""
    reason = _reason(_members(body).error)
    found = cause(
        status=status,
        code=_text(reason.code),
        kind=_text(reason.type),
        param=_text(reason.param),
        message=_text(reason.message),
    )
    return Outcome(
        id_,
        False,
        status,
        body,
        retryable=found in (Cause.PASSING, Cause.ACCOUNT),
        code=_code(reason),
        passing=found is Cause.PASSING,
        account=found is Cause.ACCOUNT,
    )


def _answered(id_: uuid.UUID, body: bytes, model: str, prices: PriceList | None) -> Outcome:
    answer = _members(body)
    if (failure := _failure_inside(id_, answer)) is not None:
        return failure
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


def _failure_inside(id_: uuid.UUID, answer: _Answer) -> Outcome | None:
    """The failure that a 200 may carry: a Response that failed, was cancelled or never ended
    (https://platform.openai.com/docs/api-reference/responses/object), or a bare error.

    Tokens that it used are charged with the batch: no answer accounts for them.
    """
    status = answer.status if answer.kind == "response" else None
    if status in ("queued", "in_progress"):
        return replace(missing(id_), passing=True)
    told = bytes(answer.error).strip() not in (b"", b"null")
    if status not in ("failed", "cancelled") and (answer.kind is not None or not told):
        return None
    reason = _reason(answer.error)
    code = _text(reason.code) or ("response_cancelled" if status == "cancelled" else "server_error")
    error = error_object(
        _text(reason.message) or "OpenAI failed to answer this request.",
        _text(reason.type) or ("server_error" if code == "server_error" else _INVALID),
        _text(reason.param),
        code,
    )
    http_status = _STATUS_OF.get(code, 400)
    return _failed(id_, http_status, json.dumps({"error": error}).encode())


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _members(body: bytes) -> _Answer:
    try:
        return _answer.decode(canonical_json.without_surrogates(body))
    except (msgspec.DecodeError, RecursionError):
        return _Answer()


def _usable(id_: object) -> str | None:
    # Long ids would not fit the index that finds a request by them; OpenAI's have 40 to 60.
    return id_ if isinstance(id_, str) and len(id_) < 256 and "\0" not in id_ else None


def _reason(error: msgspec.Raw) -> _Reason:
    """An error object's members, as far as it is one."""
    try:
        return msgspec.json.decode(error or b"{}", type=_Reason)
    except (msgspec.DecodeError, RecursionError):
        return _Reason()


def _code(reason: _Reason) -> str:
    """An error's code, or else its type, as far as it can be one."""
    code = reason.code or reason.type
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


_NOT_EXECUTED = {
    "batch_expired": "OpenAI did not execute this request before its batch expired.",
    "batch_cancelled": "The batch was cancelled at OpenAI before it executed this request. "
    "It is not sent again by itself, and can be retried.",
    "request_timeout": "OpenAI's own call to the model timed out.",
}


def _not_executed(id_: uuid.UUID, error: _Error | None) -> Outcome:
    code = (error and error.code) or ""
    code = {"batch_canceled": "batch_cancelled"}.get(code, code)
    if code == "request_timeout":
        return _made(id_, 504, code, _NOT_EXECUTED[code], retryable=True, passing=True)
    if code == "batch_cancelled":
        # Somebody said no: that is not undone by sending it again.
        return _made(id_, 409, code, _NOT_EXECUTED[code], executed=False)
    if code == "batch_expired":
        return _made(
            id_, 504, code, _NOT_EXECUTED[code], retryable=True, real=False, executed=False
        )
    # Seen: an expired batch whose lines hold a server error's text instead of a code.
    message = (error and error.message) or None
    return _made(id_, 502, "result_missing", message, retryable=True, real=False)


def missing(id_: uuid.UUID) -> Outcome:
    """The outcome of a request whose line never came, or came empty."""
    return _made(id_, 502, "result_missing", None, retryable=True, real=False)


def expired(id_: uuid.UUID) -> Outcome:
    """The outcome of a request whose batch ended early and does not mention it."""
    return _not_executed(id_, _Error(code="batch_expired"))


def cancelled(id_: uuid.UUID) -> Outcome:
    """The outcome of a request whose batch somebody cancelled at OpenAI before its turn."""
    return _not_executed(id_, _Error(code="batch_cancelled"))


def lost(id_: uuid.UUID) -> Outcome:
    """The outcome of a request that OpenAI executed and has no answer of."""
    return _made(id_, 502, "result_missing", _LOST)


def refused(id_: uuid.UUID, code: str | None, message: str | None, param: str | None) -> Outcome:
    """The outcome of a request that OpenAI's validation refused."""
    error = error_object(
        message or "OpenAI refused this request.",
        "invalid_request_error",
        param,
        code or "invalid_request",
    )
    body = json.dumps({"error": error}).encode()
    return Outcome(id_, False, 400, body, code=code if code and _CODE.fullmatch(code) else "")


def _made(
    id_: uuid.UUID,
    status: int,
    code: str | None,
    message: str | None,
    *,
    retryable: bool = False,
    real: bool = True,
    passing: bool = False,
    account: bool = False,
    executed: bool = True,
) -> Outcome:
    text = message or "OpenAI gave no answer to this request."
    type_ = "server_error" if status >= 500 else _INVALID
    body = {"error": error_object(text, type_, None, code)}
    return Outcome(
        id_,
        False,
        status,
        json.dumps(body).encode(),
        retryable=retryable,
        real=real,
        code=code or "",
        passing=passing,
        account=account,
        executed=executed,
    )


def is_incomplete(answer: bytes) -> bool:
    """Whether an answer says that it broke off: a Response with `status: "incomplete"`, a choice
    with `finish_reason` `length` or `content_filter`."""
    try:
        found = _ending.decode(canonical_json.without_surrogates(answer))
    except (msgspec.DecodeError, RecursionError):
        return False
    return found.status == "incomplete" or any(
        choice.finish_reason in ("length", "content_filter") for choice in found.choices
    )
