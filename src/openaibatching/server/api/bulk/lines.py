"""One line of the bulk door, in and out: OpenAI's batch input and output lines. Pure.

https://platform.openai.com/docs/api-reference/batch/request-input and …/request-output. A line in
the input may also carry `"idempotency_key"`, and a reply's `response` is what the single call would
have been answered.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from openaibatching.server import errors
from openaibatching.server.api.replies import Reply
from openaibatching.server.config.settings import Settings
from openaibatching.server.domain import canonical_json
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import Call, Request, request_id
from openaibatching.server.requests.parse import understand

MEDIA_TYPES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")
"""What JSON lines are called; the first is the name that OpenAI and we use."""


class Entry(msgspec.Struct, array_like=True, gc=False):
    """What one input line is to be answered: its request, or why it is refused.

    `custom_id` is JSON as it is echoed; `body_id` is None where any body of that name
    counts; `refusal` is a status and a body; `request` is there if it need not be read again.
    """

    custom_id: bytes
    id: uuid.UUID | None = None
    body_id: uuid.UUID | None = None
    refusal: tuple[int, bytes] | None = None
    request: Request | None = None


def read_line(
    settings: Settings, tenant: str, line: bytes | None, *, first_body: bool = False
) -> tuple[Entry, Call | None]:
    """What an input line asks for; None is a line that was too long to be kept.

    `first_body` as for `read_call`, of the whole bulk call.
    """
    custom_id = b"null"
    try:
        if line is None:
            raise _too_large(settings)
        if line.lstrip()[:1] == b"[":
            raise errors.InvalidJson(
                "A JSON array is not JSON lines: send each of its objects as a line of its own."
            )
        value = canonical_json.parse(
            line, canonical_json.DEPTH_MAX + 1
        )  # the body has as many as alone
        if not isinstance(value, dict):
            raise errors.InvalidJson("The line must be a JSON object.")
        custom_id = canonical_json.encode(_text(value, "custom_id"))
        if _body_bytes(line, settings.request_bytes_max) > settings.request_bytes_max:
            raise _too_large(settings)
        call = _call(settings, tenant, value, first_body)
    except errors.Refusal as refusal:
        return refuse(Entry(custom_id), refusal), None
    return Entry(custom_id, call.id, None if first_body else call.body_id), call


def refuse(entry: Entry, refusal: errors.Refusal) -> Entry:
    """The entry of a line that is answered with this refusal."""
    return Entry(entry.custom_id, refusal=(refusal.http_status, _dump(refusal.body())))


def _too_large(settings: Settings) -> errors.RequestTooLarge:
    return errors.RequestTooLarge(
        f"The line's body is larger than {settings.request_bytes_max} bytes "
        "(REQUEST_BYTES_MAX on the batch server)."
    )


class _Line(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw()


def _body_bytes(line: bytes, most: int) -> int:
    """How long the body is as it is written in the line; not looked at when it must be below."""
    if len(line) <= most:
        return 0
    try:
        return len(msgspec.json.decode(canonical_json.without_surrogates(line), type=_Line).body)
    except msgspec.DecodeError:
        return len(line)


def _call(settings: Settings, tenant: str, value: dict[str, Any], first_body: bool) -> Call:
    if _text(value, "method") != "POST":
        raise errors.InvalidParameter("'method' must be 'POST'.", param="method")
    url = _text(value, "url")
    if url not in ENDPOINTS:
        raise errors.InvalidUrl(f"'url' must be one of {', '.join(ENDPOINTS)}.", param="url")
    if "body" not in value:
        raise errors.MissingParameter("Missing required parameter: 'body'.", param="body")
    key = _text(value, "idempotency_key") if value.get("idempotency_key") is not None else None
    return understand(settings, tenant, url, value["body"], key, first_body=first_body)


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise errors.MissingParameter(f"Missing required parameter: '{name}' (a text).", param=name)
    return text


def answered(entry: Entry, request: uuid.UUID, reply: Reply) -> bytes:
    """The output line of a request that was accepted."""
    name = request_id(request).encode()
    return (
        b'{"id":"%s","custom_id":%s,"response":{"status_code":%d,"request_id":"%s","body":%s},'
        b'"error":null}\n' % (name, entry.custom_id, reply.status, name, reply.body)
    )


def refused(entry: Entry, refusal: errors.Refusal | None = None) -> bytes:
    """The output line of a line that was refused when it was read, or is by `refusal` now."""
    status, body = entry.refusal or (0, b"")
    if refusal is not None:
        status, body = refusal.http_status, _dump(refusal.body())
    return (
        b'{"id":null,"custom_id":%s,"response":{"status_code":%d,"request_id":"","body":%s},'
        b'"error":null}\n' % (entry.custom_id, status, body)
    )


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
