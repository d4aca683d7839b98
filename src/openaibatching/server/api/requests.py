"""One request, later: read, listed, cancelled, retried, deleted."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from openaibatching.server import errors
from openaibatching.server.api import replies
from openaibatching.server.api.http import reading
from openaibatching.server.api.state import Door
from openaibatching.server.auth.audit import Actor
from openaibatching.server.domain.request import Request, request_id
from openaibatching.server.domain.states import REQUEST_STATES
from openaibatching.server.domain.view import View
from openaibatching.server.requests import store


async def read_request(door: Door, http: HttpRequest) -> Response:
    """GET /v1/requests/{id}."""
    request = await find_request(door, http)
    door.answers_read.note(request)
    return _described(request)


async def cancel_request(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests/{id}/cancel and /v1/responses/{id}/cancel."""
    return _described(await door.actions.cancel(*await _caller(door, http)))


async def retry_request(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests/{id}/retry."""
    return _described(await door.actions.retry(*await _caller(door, http)))


async def delete_request(door: Door, http: HttpRequest) -> Response:
    """DELETE /v1/requests/{id} and /v1/responses/{id}."""
    request = await door.actions.delete(*await _caller(door, http))
    return JSONResponse({"id": request_id(request.id), "object": "request", "deleted": True})


async def list_events(door: Door, http: HttpRequest) -> Response:
    """GET /v1/requests/{id}/events: its story."""
    return JSONResponse(await door.reports.events(await find_request(door, http)))


async def list_requests(door: Door, http: HttpRequest) -> Response:
    """GET /v1/requests."""
    tenant = await reading.tenant(http, door.keyring)
    view = View.own(tenant)
    limit, state = reading.limit(http), reading.given(http, "status") or None
    if state is not None and state not in REQUEST_STATES:
        raise errors.InvalidParameter(
            f"'status' must be one of {', '.join(REQUEST_STATES)}.", param="status"
        )
    after = reading.given(http, "after")
    before_seq = (await door.actions.find(view, after)).seq if after else None
    if key := reading.given(http, "idempotency_key"):
        named = await door.actions.named(tenant, key)
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
    return await reading.caller(http, door.keyring), http.path_params["id"]


async def _named(door: Door, http: HttpRequest) -> tuple[str, str]:
    """(tenant, the name in the path)."""
    return await reading.tenant(http, door.keyring), http.path_params["id"]


async def find_request(door: Door, http: HttpRequest) -> Request:
    tenant, name = await _named(door, http)
    return await door.actions.find(View.own(tenant), name)
