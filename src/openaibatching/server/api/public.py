"""What anybody may ask without a key. Each answer is cheap, however often it is asked for."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from typing import NamedTuple

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from openaibatching.server import errors
from openaibatching.server.api.http import reading
from openaibatching.server.api.openapi import document as openapi_document
from openaibatching.server.api.state import Door
from openaibatching.server.pipeline import store
from openaibatching.server.telemetry import logs

log = logs.get()

WEBHOOK_BYTES_MAX = 65_536


async def health(_door: Door, _http: HttpRequest) -> Response:
    """GET /health: the process lives."""
    return JSONResponse({"status": "ok"})


async def ready(door: Door, _http: HttpRequest) -> Response:
    """GET /ready: the database works, and has all that is needed of it."""
    if why := await door.readiness.why_not():
        raise errors.DatabaseUnavailable(why)
    return JSONResponse({"status": "ready"})


class Document(NamedTuple):
    """Our OpenAPI document as it is sent, and the name of this version of it."""

    content: bytes
    etag: str


@cache
def document() -> Document:
    """Made once a process: it takes 14 ms."""
    content = msgspec.json.encode(openapi_document.document(version("openaibatching")))
    return Document(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


async def describe_api(_door: Door, http: HttpRequest) -> Response:
    """GET /openapi.json; 304 for whoever has it already (RFC 9110, section 13.1.2)."""
    content, etag = document()
    headers = {"ETag": etag, "Cache-Control": "no-cache"}  # kept, and asked about each time
    asked = ",".join(http.headers.getlist("if-none-match"))
    known = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    if known & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


async def webhook(door: Door, http: HttpRequest) -> Response:
    """POST /webhooks/openai: wakes the worker; polling stays the truth."""
    body = await reading.read_small(http, WEBHOOK_BYTES_MAX)
    try:
        batch_id = door.ctx.upstream.webhook_batch_id(body, http.headers)
    except errors.InvalidSignature as error:
        if times := door.webhooks_refused.times():
            log.warning("webhook_refused", detail=str(error), times=times)
        raise
    # One that is sent again within its five minutes tells nothing new; whoever has caught it must
    # not be able to make us ask OpenAI as often as they like.
    webhook_id = http.headers["webhook-id"]
    if batch_id and webhook_id not in door.webhooks_seen:
        async with door.ctx.database.transaction() as conn:
            await store.wake_batch(conn, batch_id)
        door.webhooks_seen[webhook_id] = True
    return Response(status_code=204)
