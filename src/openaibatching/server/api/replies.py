"""What a caller hears of a request: OpenAI's own bytes with two members added, or a valid
empty object of the endpoint while there is nothing to say yet. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from openaibatching.server.api import pending_objects
from openaibatching.server.api.modes import Mode
from openaibatching.server.billing.receipts import cost
from openaibatching.server.domain.request import Receipt, Request, request_id
from openaibatching.server.errors import NotYetFinished, error_object

RETRY_AFTER_S_MAX = 60
CANCELLED = error_object(
    "The request was cancelled.", "invalid_request_error", None, "request_cancelled"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]


def reply(
    request: Request, poll_s: float, eta: datetime | None = None, mode: Mode = Mode.EMPTY
) -> Reply:
    """What the call itself is answered now.

    `poll_s`: how soon asking again makes sense. `eta`: when the answer is expected, if anybody
    can tell. `mode`: what an unfinished request is answered.
    """
    headers = {"X-Batching-Id": request_id(request.id), "X-Batching-Status": request.state}
    if not request.finished:
        headers["Retry-After"] = retry_after(poll_s)
        status, body = 202, _pending(request)
        if mode is Mode.ASK:
            refusal = NotYetFinished()
            status, body = refusal.http_status, refusal.body()
            headers |= refusal.headers
        return Reply(status, _with_members(_dump(body), request, eta), headers)
    if request.state != "completed":
        headers["x-should-retry"] = "false"
    if request.state == "cancelled":
        return Reply(409, _with_members(_dump({"error": CANCELLED}), request), headers)
    assert request.answer is not None
    assert request.status_code is not None
    return Reply(request.status_code, _with_members(request.answer, request), headers)


def retry_after(poll_s: float) -> str:
    """In whole seconds, when asking again makes sense."""
    return str(min(RETRY_AFTER_S_MAX, max(1, math.ceil(poll_s))))


def _pending(request: Request) -> dict[str, Any]:
    return pending_objects.pending(
        request.endpoint,
        id=request_id(request.id),
        model=request.model,
        created_at=_unix(request.created_at),
        status="queued" if request.state == "queued" else "in_progress",
    )


def _with_members(body: bytes, request: Request, eta: datetime | None = None) -> bytes:
    """`body`, a JSON object with at least one member, byte for byte, and the two added ones."""
    members = {"has_completed": request.finished, "batching": _batching(request, eta)}
    return body.rstrip()[:-1] + b"," + _dump(members)[1:]


def _batching(request: Request, eta: datetime | None) -> dict[str, Any]:
    members = {
        "id": request_id(request.id),
        "status": request.state,
        "batch_id": request.batch_upstream_id,
        "attempts": request.attempts,
        "created_at": _unix(request.created_at),
        "completed_at": _unix(request.finished_at),
        "estimated_completion_at": _unix(eta),
    }
    if request.finished:
        members["cost"] = receipt(request.receipt)
    return members


def receipt(found: Receipt | None) -> dict[str, Any] | None:
    """The receipt of an answer; None without one, or where the price is not known."""
    if found is None:
        return None
    return {**cost(found.realtime, found.paid), "incomplete": found.incomplete}


def describe(request: Request, *, with_answer: bool) -> bytes:
    """The object of GET /v1/requests/{id}, as JSON; in lists it comes without bodies."""
    head = {
        "object": "request",
        "id": request_id(request.id),
        "status": request.state,
        "endpoint": request.endpoint,
        "model": request.model or None,
        "batch_id": request.batch_upstream_id,
        "attempts": request.attempts,
        "created_at": _unix(request.created_at),
        "completed_at": _unix(request.finished_at),
    }
    if not with_answer:
        return _dump(head)
    response, error = b"null", b"null"
    if request.state in ("completed", "failed") and request.answer is not None:
        response = b'{"status_code":%d,"body":%s}' % (
            request.status_code or 0,
            request.answer.strip(),
        )
    if request.state == "failed":
        error = json.dumps(_error_of(request.answer), separators=(",", ":")).encode()
    elif request.state == "cancelled":
        error = _dump(CANCELLED)
    return _dump(head)[:-1] + b',"response":' + response + b',"error":' + error + b"}"


def _error_of(answer: bytes | None) -> Any:
    """The error object inside OpenAI's answer, whatever shape it has."""
    try:
        body = json.loads(answer or b"{}")
    except (ValueError, RecursionError):
        body = {}
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return error
    return error_object("OpenAI answered with an error.", "server_error", None, None)


def listing(requests: list[Request], *, has_more: bool) -> bytes:
    """A page of requests, in the shape of OpenAI's lists."""
    data = b",".join(describe(request, with_answer=False) for request in requests)
    tail = {
        "first_id": request_id(requests[0].id) if requests else None,
        "last_id": request_id(requests[-1].id) if requests else None,
        "has_more": has_more,
    }
    return b'{"object":"list","data":[' + data + b"]," + _dump(tail)[1:]


def _unix(at: datetime | None) -> Any:
    return None if at is None else int(at.timestamp())


def _dump(value: Any) -> bytes:
    return msgspec.json.encode(value)  # in C, and only of what holds no lone surrogates
