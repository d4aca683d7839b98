"""Calls that are in the air together travel as one bulk call, `POST /v1/requests`: the pure half.

A call becomes a line, and the line of the reply becomes the response that the call alone would have
had, with the same body, byte for byte, and the same headers. So the SDK, which is above this, does
with it what it always does: parses it, raises its errors, retries.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

from openaibatching.client import output_line
from openaibatching.client.output_line import OutputLine

ENDPOINTS = (
    "/responses", "/chat/completions", "/completions", "/embeddings", "/moderations",
    "/images/generations", "/images/edits",
)  # fmt: skip
LINES_MAX, BYTES_MAX = 10_000, 16_000_000
"""What one bulk call holds at most."""
BODY_BYTES_MAX = 1_000_000
"""A larger call goes alone: there is nothing to be gained."""

# What belongs to one call and not to its company. The SDK's `x-stainless-…` only tell about it.
_OWN_HEADERS = ("content-length", "content-type", "idempotency-key", "accept", "x-stainless-")
_LIMITED = re.compile(rb'"code":"(?:rate_limited|too_many_models)"\}\}$')
"""The refusal of a call that may pass later: its tenant is above one of its limits for now."""
NO_BULK_DOOR = (404, 405, 415)
"""How a server without a bulk door answers a bulk call."""

LINGER_S_MIN, LINGER_S_MAX = 0.01, 15.0


def goes_alone(http_client: Any, stream: bool, send_options: Mapping[str, Any]) -> bool:
    """Whether a call must be an HTTP request of its own: its reply is streamed, it has its own way
    to authenticate, or the HTTP client has hooks that want to see each call."""
    return stream or bool(send_options) or any(http_client.event_hooks.values())


def linger_s(in_flight: int) -> float:
    """Seconds that a call waits for company while so many HTTP requests are in the air.

    None when there is no other, so that a call that is alone loses no time. With each one more,
    four times as long: so even calls that are held for minutes, and come one by one, hold few
    connections. A request that comes back ends the wait.
    """
    if in_flight == 0:
        return 0.0
    return min(LINGER_S_MAX, math.ldexp(LINGER_S_MIN, 2 * min(in_flight - 1, 10)))


@dataclass(frozen=True)
class Company:
    """What calls have in common that may travel together."""

    url: str
    headers: tuple[tuple[str, str], ...]
    timeout: tuple[tuple[str, float | None], ...]


def company(request: Any, base_path: str) -> Company | None:
    """The company in which an HTTP request of the SDK's may travel; None if it goes alone."""
    path = request.url.path
    if (
        request.method != "POST"
        or not path.startswith(base_path)
        or "/" + path[len(base_path) :].lstrip("/") not in ENDPOINTS
        or request.url.query
        or request.headers.get("content-type") != "application/json"
    ):
        return None
    try:
        body = request.content
    except Exception:  # a streamed body, which the HTTP library does not have
        return None
    if len(body) > BODY_BYTES_MAX or b"\n" in body:
        return None
    shared = [
        (name, value)
        for name, value in request.headers.multi_items()
        if not name.lower().startswith(_OWN_HEADERS)
    ]
    timeout = request.extensions.get("timeout") or {}
    url = str(request.url.copy_with(path=f"{base_path.rstrip('/')}/requests"))
    return Company(url, tuple(sorted(shared)), tuple(sorted(timeout.items())))


def line(request: Any, base_path: str, place: int) -> bytes:
    """The batch input line of a call; `place` is its custom_id.

    All that is ours comes after the body: of two members with one name the last one counts, so
    that no body, however it was made, can speak for another call.
    """
    path = "/v1/" + request.url.path[len(base_path) :].lstrip("/")
    key = request.headers.get("idempotency-key")
    named = json.dumps(key).encode()
    return b'{"body":%s,"custom_id":"%d","method":"POST","url":"%s","idempotency_key":%s}\n' % (
        request.content, place, path.encode(), named,
    )  # fmt: skip


def bulk_request(http_client: Any, company: Company, content: bytes) -> Any:
    """The HTTP request of a bulk call: the headers and timeouts that its calls have in common, and
    the preference that each is answered as soon as it has finished."""
    headers = dict(company.headers)
    if wait := headers.get("prefer"):
        headers["prefer"] = f"{wait}, order=finished"
    headers |= {"content-type": "application/jsonl", "accept": "application/jsonl"}
    extensions = {"timeout": dict(company.timeout)} if company.timeout else {}
    return http_client.build_request(
        "POST", company.url, headers=headers, content=content, extensions=extensions
    )


@dataclass(frozen=True)
class Answer:
    """What one call is answered: its place in the bulk call, and the response's parts.

    The place is None if the server could not read the line.
    """

    place: int | None
    status: int
    headers: dict[str, str]
    body: bytes


def answers(lines: Sequence[bytes], reply_headers: Mapping[str, str]) -> Iterator[Answer]:
    """The answers in lines of a bulk reply that has these headers.

    Raises ValueError for a line that is none of a batch server's.
    """
    for text in lines:
        line = output_line.read(text)
        place = None if line.custom_id is None else int(line.custom_id)
        yield Answer(place, line.status, _headers(line, reply_headers), line.body)


def _headers(line: OutputLine, reply: Mapping[str, str]) -> dict[str, str]:
    """Those of the single call: they say again what is in the body."""
    found = {"content-type": "application/json"}
    if line.id is not None:
        found["x-batching-id"] = line.id
    if applied := reply.get("preference-applied"):
        found["preference-applied"] = applied.partition(",")[0]
    limited = line.status == 429 and _LIMITED.search(line.body) is not None
    # OpenAI's own, which is final; or a budget that is used up, or nothing to go on from.
    if (line.status in (409, 429) and not limited) or (line.has_completed and line.status >= 400):
        found["x-should-retry"] = "false"
    if line.state is not None:
        found["x-batching-status"] = line.state
    if (line.status == 202 or limited) and (after := reply.get("retry-after")):
        found["retry-after"] = after
    return found


def portions(sizes: Sequence[int]) -> Iterator[slice]:
    """How calls with bodies of these bytes are shared out over bulk calls."""
    start = held = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start == LINES_MAX or held + size > BYTES_MAX):
            yield slice(start, place)
            start, held = place, 0
        held += size
    yield slice(start, len(sizes))


class Reading:
    """A bulk reply as it arrives: bytes in, the responses of its calls out.

    `unread` says whether there were lines that the server could not read, so that it did not know
    whose they are. Alone, each of them is told what is wrong with it.
    """

    def __init__(self, reply: Any, requests: Sequence[Any], started: float) -> None:
        self._reply, self._requests, self._started = reply, requests, started
        self._rest = b""
        self.unread = False

    def feed(self, chunk: bytes, now: float) -> Iterator[tuple[int, Any]]:
        """(place, response) of every call that `chunk` completes. Raises ValueError."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for answer in answers(lines, self._reply.headers):
            if answer.place is None:
                self.unread = True
                continue
            request = self._requests[answer.place]
            made = type(self._reply)(
                status_code=answer.status,
                headers=answer.headers,
                content=answer.body,
                request=request,
            )
            made.elapsed = timedelta(seconds=now - self._started)
            yield answer.place, made


def is_bulk_reply(reply: Any) -> bool:
    """Whether the reply has lines; else it is a refusal of the whole."""
    media = str(reply.headers.get("content-type", "")).partition(";")[0].strip()
    return reply.status_code == 200 and media == "application/jsonl"


def copied(reply: Any, content: bytes, request: Any) -> Any:
    """A refusal of a whole bulk call, as the response of one of its calls."""
    kept = [
        (name, value)
        for name, value in reply.headers.multi_items()
        if name.lower() not in ("content-length", "content-encoding", "transfer-encoding")
    ]
    made = type(reply)(
        status_code=reply.status_code, headers=kept, content=content, request=request
    )
    made.elapsed = timedelta(0)
    return made


def cut_off(request: Any, why: str) -> Exception:
    """The HTTP library's own error for a reply that came to no good end: the SDK sends again."""
    library = import_module(type(request).__module__.partition(".")[0])  # httpx or httpx2
    error: Exception = library.RemoteProtocolError(why, request=request)
    return error
