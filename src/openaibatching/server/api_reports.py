"""The door's answers about all of a tenant's work; overview.py knows them."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from openaibatching.server import calling_off, canonical, errors, incoming, overview, situation
from openaibatching.server.door import Door
from openaibatching.server.holder import Power
from openaibatching.server.view import View

DAYS, DAYS_MAX = 30, 3660
CANCEL_BYTES_MAX = 65_536


async def _view(door: Door, http: HttpRequest) -> View:
    """What the key sees, or of that the tenant of `?tenant=`. Raises InsufficientScope."""
    holder = await incoming.holder(http, door.keyring)
    view, name = await overview.view(door, holder), incoming.given(http, "tenant")
    if not name or view.tenants == (name,):
        return view
    incoming.require(holder, Power.ALL_TENANTS)
    return View.own(name, whole=True)


async def read_stats(door: Door, http: HttpRequest) -> Response:
    """GET /v1/stats."""
    return JSONResponse(await overview.stats(door, await _view(door, http)))


async def list_batches(door: Door, http: HttpRequest) -> Response:
    """GET /v1/upstream_batches."""
    view = await _view(door, http)
    after, limit = incoming.given(http, "after"), incoming.limit(http)
    return JSONResponse(await overview.batches(door, view, after, limit))


async def read_batch(door: Door, http: HttpRequest) -> Response:
    """GET /v1/upstream_batches/{id}; the id is ours, or OpenAI's."""
    view = await _view(door, http)
    return JSONResponse(await overview.batch(door, view, http.path_params["id"]))


async def cancel_batch(door: Door, http: HttpRequest) -> Response:
    """POST /v1/upstream_batches/{id}/cancel."""
    by = await incoming.caller(http, door.keyring)
    return JSONResponse(await calling_off.cancel_batch(door, by, http.path_params["id"]))


async def cancel_queued(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests/cancel."""
    by = await incoming.caller(http, door.keyring)
    body = await incoming.read_json(http, CANCEL_BYTES_MAX)
    wanted = calling_off.read_wanted(canonical.parse(body))
    return JSONResponse({"cancelled": await calling_off.cancel_queued(door, by, wanted)})


async def no_batch(door: Door, http: HttpRequest) -> Response:
    """GET /v1/batches/{id}: what is sent to OpenAI is at another path."""
    await incoming.tenant(http, door.keyring)
    name = http.path_params["id"]
    raise errors.NotFound(
        f"No batch found with id '{name}'. What was sent to OpenAI is at "
        f"/v1/upstream_batches/{name}.",
        param="id",
    )


async def read_costs(door: Door, http: HttpRequest) -> Response:
    """GET /v1/costs."""
    view = await _view(door, http)
    by = [part.strip() for part in (incoming.given(http, "group_by") or "day").split(",")]
    if not set(by) <= set(situation.GROUPS) or len(set(by)) < len(by):
        raise errors.InvalidParameter(
            f"'group_by' must be some of {', '.join(situation.GROUPS)}, separated by commas.",
            param="group_by",
        )
    days = incoming.whole_number(http, "days", DAYS, DAYS_MAX)
    return JSONResponse(await overview.costs(door, view, days, by))


async def flush(door: Door, http: HttpRequest) -> Response:
    """POST /v1/flush."""
    by = await incoming.caller(http, door.keyring)
    return JSONResponse(await overview.flush(door, by), 202)
