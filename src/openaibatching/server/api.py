"""The door: which path does what, and what every refusal looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from openaibatching.server import (
    api_models,
    api_public,
    api_reports,
    bulk,
    counted,
    errors,
    incoming,
    journal,
    metrics,
    modes,
    money,
    overview,
    replies,
    reply_headers,
    reports,
    steering,
    store,
)
from openaibatching.server.audit import Actor
from openaibatching.server.call import read_call
from openaibatching.server.db import Connection
from openaibatching.server.door import Door
from openaibatching.server.endpoints import ENDPOINTS
from openaibatching.server.holder import Power
from openaibatching.server.model import REQUEST_STATES, Request, request_id
from openaibatching.server.page import routes as page
from openaibatching.server.view import View

log = journal.get()

BODY_BYTES_INLINE = 65_536
"""A larger body is understood in a thread: it takes milliseconds that all callers would wait. Of
one that is nothing but brackets, this much takes 13."""

READING = ("GET", "HEAD")
"""The methods that change nothing."""

Handler = Callable[[Door, HttpRequest], Awaitable[Response]]


# ----- the call -----


async def call(door: Door, http: HttpRequest) -> Response:
    """POST /v1/…: accept the call and answer with what is known of it."""
    return await _answer(door, http, await _accept(door, http))


async def _accept(door: Door, http: HttpRequest) -> Request:
    # A function of its own, so that a call that waits does not keep its body in memory.
    tenant = await incoming.tenant(http, door.keyring)
    hold = partial(door.callers.hold, http.scope)
    body = await incoming.read_json(http, door.ctx.settings.request_bytes_max, hold)
    read = partial(
        read_call,
        door.ctx.settings,
        tenant,
        # Not http.url.path: that is put together with the Host header, which the caller writes.
        http.scope["path"],
        body,
        incoming.idempotency_key(http),
        first_body=incoming.first_body(http),
    )
    understood = await asyncio.to_thread(read) if len(body) > BODY_BYTES_INLINE else read()
    if (traceparent := door.traceparent(http)) is not None:
        understood = replace(understood, traceparent=traceparent)
    request = await door.accept(understood)
    door.callers.let_go(http.scope)
    return request


async def _answer(door: Door, http: HttpRequest, request: Request) -> Response:
    """The request's reply, held back as long as the caller prefers to wait."""
    wait = incoming.wait_s(http, door.ctx.settings.wait_s_max)
    if wait is not None and not request.finished:
        held = door.keyring.open_call(await incoming.holder(http, door.keyring))
        async with incoming.watched(http, held):
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
    found = await door.read(lambda conn: store.read_request(conn, request.id))
    if found is None:  # deleted at this moment
        raise errors.NotFound(f"No request found with id '{request_id(request.id)}'.", param="id")
    return found


# ----- one request, later -----


async def read_answer(door: Door, http: HttpRequest) -> Response:
    """GET /v1/responses/{id} and /v1/chat/completions/{id}: as the call would be answered now."""
    return await _answer(door, http, await _find(door, http))


async def read_request(door: Door, http: HttpRequest) -> Response:
    """GET /v1/requests/{id}."""
    request = await _find(door, http)
    door.answers_read.note(request)
    return _described(request)


async def cancel_request(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests/{id}/cancel and /v1/responses/{id}/cancel."""
    return _described(await steering.cancel(door, *await _caller(door, http)))


async def retry_request(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests/{id}/retry."""
    return _described(await steering.retry(door, *await _caller(door, http)))


async def delete_request(door: Door, http: HttpRequest) -> Response:
    """DELETE /v1/requests/{id} and /v1/responses/{id}."""
    request = await steering.delete(door, *await _caller(door, http))
    return JSONResponse({"id": request_id(request.id), "object": "request", "deleted": True})


async def list_events(door: Door, http: HttpRequest) -> Response:
    """GET /v1/requests/{id}/events: its story."""
    return JSONResponse(await overview.events(door, await _find(door, http)))


async def list_requests(door: Door, http: HttpRequest) -> Response:
    """GET /v1/requests."""
    tenant = await incoming.tenant(http, door.keyring)
    view = View.own(tenant)
    limit, state = incoming.limit(http), incoming.given(http, "status") or None
    if state is not None and state not in REQUEST_STATES:
        raise errors.InvalidParameter(
            f"'status' must be one of {', '.join(REQUEST_STATES)}.", param="status"
        )
    after = incoming.given(http, "after")
    before_seq = (await steering.find(door, view, after)).seq if after else None
    if key := incoming.given(http, "idempotency_key"):
        named = await steering.named(door, tenant, key)
        states = (state,) if state else REQUEST_STATES
        found = [
            request
            for request in named
            if request.state in states and (before_seq is None or request.seq < before_seq)
        ]
    else:
        found = await door.read(
            lambda conn: store.list_requests(conn, view, state, before_seq, limit + 1)
        )
    body = replies.listing(found[:limit], has_more=len(found) > limit)
    return Response(body, media_type="application/json")


def _described(request: Request) -> Response:
    body = replies.describe(request, with_answer=True)
    return Response(body, media_type="application/json")


async def _caller(door: Door, http: HttpRequest) -> tuple[Actor, str]:
    """(who calls, the name in the path)."""
    return await incoming.caller(http, door.keyring), http.path_params["id"]


async def _named(door: Door, http: HttpRequest) -> tuple[str, str]:
    """(tenant, the name in the path)."""
    return await incoming.tenant(http, door.keyring), http.path_params["id"]


async def _find(door: Door, http: HttpRequest) -> Request:
    tenant, name = await _named(door, http)
    return await steering.find(door, View.own(tenant), name)


# ----- around it -----


async def read_metrics(door: Door, http: HttpRequest) -> Response:
    """GET /metrics: Prometheus text; of all tenants and the server, or of a tenant alone."""
    holder = await incoming.holder(http, door.keyring)
    incoming.require(holder, Power.ALL_METRICS, Power.READ)
    tenant = None if holder.may(Power.ALL_METRICS) else holder.tenant

    async def look(conn: Connection) -> metrics.Look:
        spending, failures = await door.totals.of(tenant).read(conn)
        budgets = await money.read_budgets(conn, door.budget.limits, None)
        return metrics.Look(
            tally=await reports.read_tally(conn, tenant),
            oldest_queued_s=await reports.oldest_queued_s(conn, tenant),
            stuck=await reports.stuck_batches(conn, None, tenant),
            spending=spending,
            failures=failures,
            budgets={n: its for n, its in budgets.items() if tenant in (None, n)},
            account=await _account(conn) if tenant is None else None,
        )

    page = metrics.render(await door.read(look), version("openaibatching"))
    return Response(page, media_type=metrics.CONTENT_TYPE)


async def _account(conn: Connection) -> metrics.Account:
    return metrics.Account(
        creates_last_hour=await store.creates_last_hour(conn, None),
        token_limits=await reports.token_limits(conn),
    )


ROUTES: list[tuple[str, str, Handler]] = [
    *(("POST", path, call) for path in ENDPOINTS),
    ("GET", "/v1/responses/{id}", read_answer),
    ("DELETE", "/v1/responses/{id}", delete_request),
    ("POST", "/v1/responses/{id}/cancel", cancel_request),
    ("GET", "/v1/chat/completions/{id}", read_answer),
    ("GET", "/v1/models", api_models.list_models),
    ("GET", "/v1/models/{id:path}", api_models.read_model),
    ("GET", "/v1/requests", list_requests),
    ("POST", "/v1/requests", bulk.post_requests),
    ("GET", "/v1/requests/{id}", read_request),
    ("DELETE", "/v1/requests/{id}", delete_request),
    ("POST", "/v1/requests/{id}/cancel", cancel_request),
    ("POST", "/v1/requests/{id}/retry", retry_request),
    ("GET", "/v1/requests/{id}/events", list_events),
    ("POST", "/v1/requests/cancel", api_reports.cancel_queued),
    ("GET", "/v1/upstream_batches", api_reports.list_batches),
    ("GET", "/v1/upstream_batches/{id}", api_reports.read_batch),
    ("POST", "/v1/upstream_batches/{id}/cancel", api_reports.cancel_batch),
    ("GET", "/v1/batches/{id}", api_reports.no_batch),
    ("GET", "/v1/stats", api_reports.read_stats),
    ("GET", "/v1/costs", api_reports.read_costs),
    ("POST", "/v1/flush", api_reports.flush),
    ("GET", "/health", api_public.health),
    ("GET", "/ready", api_public.ready),
    ("GET", "/metrics", read_metrics),
    ("GET", "/openapi.json", api_public.describe_api),
    ("POST", "/webhooks/openai", api_public.webhook),
]


def build(door: Door) -> ASGIApp:
    """The ASGI application.

    Paths without parameters, which are all that are called often, are found in a table: what
    Starlette does for each request costs as much as all that the server itself does for a call.
    """
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in [*ROUTES, *page.ROUTES]:
        by_path.setdefault(path, {})[method] = handler
    starlette = Starlette(
        routes=[
            Route(path, _endpoint(door, handlers), methods=list(handlers))
            # Those without a parameter first: `/v1/requests/cancel` is no request of that id.
            for path, handlers in sorted(by_path.items(), key=lambda item: "{" in item[0])
        ],
        exception_handlers={HTTPException: _no_route(door)},
    )
    # "/v1/responses/" is an unknown path, not a redirect to wherever the Host header says.
    starlette.router.redirect_slashes = False

    tls = door.ctx.settings.tls

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        send = reply_headers.enter(scope, send, tls=tls)
        modes.enter(scope)
        handler = by_path.get(scope["path"], {}).get(scope["method"])
        try:
            if handler is None:
                await starlette(scope, receive, send)
                return
            reply = await _reply(door, HttpRequest(scope, receive), handler)
            await reply(scope, receive, send)
        finally:
            door.callers.leave(scope)

    return app


def _endpoint(door: Door, handlers: dict[str, Handler]) -> Callable[..., Awaitable[Response]]:
    async def run(http: HttpRequest) -> Response:
        # HEAD is answered like GET; the server leaves the body away.
        return await _reply(door, http, handlers["GET" if http.method == "HEAD" else http.method])

    return run


def _no_route(door: Door) -> Callable[[HttpRequest, Exception], Awaitable[Response]]:
    """Starlette's own 404 and 405, in OpenAI's shape."""

    async def run(http: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status, headers = error.status_code, dict(error.headers or {})

        async def refuse(_door: Door, http: HttpRequest) -> Response:
            path = modes.path_of(http.scope)
            if status == 405:
                message = f"{path} does not take {http.method}."
                return _refusal(errors.MethodNotAllowed(message), headers)
            raise errors.UnknownEndpoint(f"Unknown path: {http.method} {path}.")

        return await _reply(door, http, refuse)

    return run


async def _reply(door: Door, http: HttpRequest, handler: Handler) -> Response:
    reply = await _handled(door, http, handler)
    counted.reply(reply.status_code)
    return reply


async def _handled(door: Door, http: HttpRequest, handler: Handler) -> Response:
    try:
        if modes.is_api(http.scope["path"]):
            await _check_key(door, http)
        return await handler(door, http)
    except errors.Refusal as error:
        return _refusal(error)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody is there to read it
    except Exception as error:
        # A mistake of ours. The log says where; not Starlette, which would pass it on to the web
        # server, and that closes the connection under the caller's next call.
        path = modes.path_of(http.scope)
        log.error("handler_failed", method=http.method, path=path, exc_info=error)
        return _refusal(errors.Internal())


async def _check_key(door: Door, http: HttpRequest) -> None:
    """The first thing to happen: without a good key nobody learns which paths there are, and above
    its limits no tenant costs more than that.

    A call that is no GET changes something, so a key that only reads may not make it.
    """
    try:
        holder = await incoming.holder(http, door.keyring)
        door.callers.enter(http.scope, holder.tenant)
        incoming.require(holder, Power.READ if http.method in READING else Power.SUBMIT)
    except errors.Refusal:
        await incoming.drain(http)
        raise


def _refusal(error: errors.Refusal, extra: dict[str, str] | None = None) -> Response:
    return JSONResponse(error.body(), error.http_status, {**error.reply_headers(), **(extra or {})})


def endpoints() -> list[tuple[str, str]]:
    """(method, path) of everything that is served: compared with OpenAPI by a test."""
    return [(method, path.replace(":path}", "}")) for method, path, _ in ROUTES]
