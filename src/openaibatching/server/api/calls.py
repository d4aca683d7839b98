"""A call: what POST /v1/responses and its kin do, and a response that is asked for by its id."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from openaibatching.server import errors
from openaibatching.server.api import modes, replies
from openaibatching.server.api.http import reading
from openaibatching.server.api.requests import find_request
from openaibatching.server.api.state import Door
from openaibatching.server.domain.request import Request, request_id
from openaibatching.server.requests import store
from openaibatching.server.requests.parse import read_call

BODY_BYTES_INLINE = 65_536
"""A larger body is understood in a thread: it takes milliseconds that all callers would wait. Of
one that is nothing but brackets, this much takes 13."""


async def call(door: Door, http: HttpRequest) -> Response:
    """POST /v1/…: accept the call and answer with what is known of it."""
    return await _answer(door, http, await _accept(door, http))


async def _accept(door: Door, http: HttpRequest) -> Request:
    # A function of its own, so that a call that waits does not keep its body in memory.
    tenant = await reading.tenant(http, door.keyring)
    hold = partial(door.callers.hold, http.scope)
    body = await reading.read_json(http, door.ctx.settings.request_bytes_max, hold)
    read = partial(
        read_call,
        door.ctx.settings,
        tenant,
        # Not http.url.path: that is put together with the Host header, which the caller writes.
        http.scope["path"],
        body,
        reading.idempotency_key(http),
        first_body=reading.first_body(http),
    )
    understood = await asyncio.to_thread(read) if len(body) > BODY_BYTES_INLINE else read()
    if (traceparent := door.traceparent(http)) is not None:
        understood = replace(understood, traceparent=traceparent)
    request = await door.accept(understood)
    door.callers.let_go(http.scope)
    return request


async def _answer(door: Door, http: HttpRequest, request: Request) -> Response:
    """The request's reply, held back as long as the caller prefers to wait."""
    wait = reading.wait_s(http, door.ctx.settings.wait_s_max)
    if wait is not None and not request.finished:
        held = door.keyring.open_call(await reading.holder(http, door.keyring))
        async with reading.watched(http, held):
            found = await door.deliverer.wait(request.id, wait, held)
        if held.caller_gone:
            raise ClientDisconnect
        request = found or await _reread(door, request)
        if held.key_ended:
            raise errors.InvalidApiKey
    if request.answer_left_out:
        request = await _reread(door, request)
    door.answers_read.note(request)
    poll_s, mode = door.ctx.settings.batch_poll_s, modes.of(http.scope)
    reply = replies.reply(request, poll_s, door.eta(request), mode)
    headers = reply.headers if wait is None else {**reply.headers, "Preference-Applied": "wait"}
    return Response(reply.body, reply.status, headers, "application/json")


async def _reread(door: Door, request: Request) -> Request:
    found = await door.read(lambda conn: store.read_request(conn, [request.tenant], request.id))
    if found is None:  # deleted at this moment
        raise errors.NotFound(f"No request found with id '{request_id(request.id)}'.", param="id")
    return found


async def read_answer(door: Door, http: HttpRequest) -> Response:
    """GET /v1/responses/{id} and /v1/chat/completions/{id}: as the call would be answered now."""
    return await _answer(door, http, await find_request(door, http))
