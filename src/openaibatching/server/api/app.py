"""The door: which path does what, and what every refusal looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from openaibatching.server import errors
from openaibatching.server.api import models, modes, public, reports
from openaibatching.server.api.bulk import endpoint
from openaibatching.server.api.calls import call, read_answer
from openaibatching.server.api.http import reading, reply_headers
from openaibatching.server.api.http.whole_reply import send_reply
from openaibatching.server.api.operations import read_metrics
from openaibatching.server.api.requests import (
    cancel_request,
    delete_request,
    list_events,
    list_requests,
    read_request,
    retry_request,
)
from openaibatching.server.api.state import Door
from openaibatching.server.auth.holder import Power
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.telemetry import counters, logs

log = logs.get()

READING = ("GET", "HEAD")
"""The methods that change nothing."""

Handler = Callable[[Door, HttpRequest], Awaitable[Response]]


ROUTES: list[tuple[str, str, Handler]] = [
    *(("POST", path, call) for path in ENDPOINTS),
    ("GET", "/v1/responses/{id}", read_answer),
    ("DELETE", "/v1/responses/{id}", delete_request),
    ("POST", "/v1/responses/{id}/cancel", cancel_request),
    ("GET", "/v1/chat/completions/{id}", read_answer),
    ("GET", "/v1/models", models.list_models),
    ("GET", "/v1/models/{id:path}", models.read_model),
    ("GET", "/v1/requests", list_requests),
    ("POST", "/v1/requests", endpoint.post_requests),
    ("GET", "/v1/requests/{id}", read_request),
    ("DELETE", "/v1/requests/{id}", delete_request),
    ("POST", "/v1/requests/{id}/cancel", cancel_request),
    ("POST", "/v1/requests/{id}/retry", retry_request),
    ("GET", "/v1/requests/{id}/events", list_events),
    ("POST", "/v1/requests/cancel", reports.cancel_queued),
    ("GET", "/v1/upstream_batches", reports.list_batches),
    ("GET", "/v1/upstream_batches/{id}", reports.read_batch),
    ("POST", "/v1/upstream_batches/{id}/cancel", reports.cancel_batch),
    ("GET", "/v1/batches/{id}", reports.no_batch),
    ("GET", "/v1/stats", reports.read_stats),
    ("GET", "/v1/costs", reports.read_costs),
    ("POST", "/v1/flush", reports.flush),
    ("GET", "/health", public.health),
    ("GET", "/ready", public.ready),
    ("GET", "/metrics", read_metrics),
    ("GET", "/openapi.json", public.describe_api),
    ("POST", "/webhooks/openai", public.webhook),
]


def build(door: Door, page: Sequence[tuple[str, str, Handler]]) -> ASGIApp:
    """The ASGI application: the API, and these routes of the page.

    Paths without parameters, which are all that are called often, are found in a table: what
    Starlette does for each request costs as much as all that the server itself does for a call.
    """
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in [*ROUTES, *page]:
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
            await send_reply(reply, scope, receive, send)
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
    counters.reply(reply.status_code)
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
        holder = await reading.holder(http, door.keyring)
        door.callers.enter(http.scope, holder.tenant)
        reading.require(holder, Power.READ if http.method in READING else Power.SUBMIT)
    except errors.Refusal:
        await reading.drain(http)
        raise


def _refusal(error: errors.Refusal, extra: dict[str, str] | None = None) -> Response:
    return JSONResponse(error.body(), error.http_status, {**error.reply_headers(), **(extra or {})})


def endpoints() -> list[tuple[str, str]]:
    """(method, path) of everything that is served: compared with OpenAPI by a test."""
    return [(method, path.replace(":path}", "}")) for method, path, _ in ROUTES]
