"""What Schemathesis has to be told about this door: it is a program of its own."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis.specs.openapi import checks

MEDIA_TYPES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")

NO_LINE = {
    "id": None,
    "custom_id": None,
    "response": {"status_code": 400, "request_id": "", "body": {}},
    "error": None,
}


@schemathesis.serializer(*MEDIA_TYPES)
def lines(_ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """The document describes one line; a body is some of them."""
    return (json.dumps(value) + "\n").encode() * 2


@schemathesis.deserializer(MEDIA_TYPES[0])
def last_line(_ctx: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """One line stands for all; where there is none, one that is right."""
    return json.loads(response.content.splitlines()[-1]) if response.content else NO_LINE


@schemathesis.check
def a_valid_call_is_accepted(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """Schemathesis's own check, but a call that OpenAI refuses later was accepted too, and an
    Idempotency-Key may have been used before."""
    if "x-batching-id" in response.headers or response.status_code == 422:
        return None
    return checks.positive_data_acceptance(ctx, response, case)


@schemathesis.check
def an_error_has_openais_shape(
    _ctx: schemathesis.CheckContext, response: schemathesis.Response, _case: schemathesis.Case[Any]
) -> None:
    """Whatever it is, it has the four members that the SDKs read."""
    if response.status_code < 400 or "x-batching-id" in response.headers:
        return
    if response.request.method != "HEAD":
        error = json.loads(response.content)["error"]
        assert list(error) == ["message", "type", "param", "code"]


@schemathesis.check
def nothing_of_the_inside_shows(
    _ctx: schemathesis.CheckContext, response: schemathesis.Response, _case: schemathesis.Case[Any]
) -> None:
    """No traceback, and no name of a file or a library."""
    for word in (b"Traceback", b"psycopg", b"site-packages", b"openaibatching/"):
        assert word not in response.content
