"""The door's answers about all of a tenant's work; reporting/reports.py knows them."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from openaibatching.server import errors
from openaibatching.server.api import cancellations
from openaibatching.server.api.http import reading
from openaibatching.server.api.state import Door
from openaibatching.server.auth.holder import Power
from openaibatching.server.domain import canonical_json
from openaibatching.server.domain.view import View
from openaibatching.server.reporting import presenters

DAYS, DAYS_MAX = 30, 3660
CANCEL_BYTES_MAX = 65_536


async def _view(door: Door, http: HttpRequest) -> View:
    """What the key sees, or of that the tenant of `?tenant=`. Raises InsufficientScope."""
    holder = await reading.holder(http, door.keyring)
    view, name = await door.reports.view(holder), reading.given(http, "tenant")
    if not name or view.tenants == (name,):
        return view
    reading.require(holder, Power.ALL_TENANTS)
    return View.own(name, whole=True)


async def read_stats(door: Door, http: HttpRequest) -> Response:
    """GET /v1/stats."""
    return JSONResponse(await door.reports.stats(await _view(door, http)))


async def list_batches(door: Door, http: HttpRequest) -> Response:
    """GET /v1/upstream_batches."""
    view = await _view(door, http)
    after, limit = reading.given(http, "after"), reading.limit(http)
    return JSONResponse(await door.reports.batches(view, after, limit))


async def read_batch(door: Door, http: HttpRequest) -> Response:
    """GET /v1/upstream_batches/{id}; the id is ours, or OpenAI's."""
    view = await _view(door, http)
    return JSONResponse(await door.reports.batch(view, http.path_params["id"]))


async def cancel_batch(door: Door, http: HttpRequest) -> Response:
    """POST /v1/upstream_batches/{id}/cancel."""
    by = await reading.caller(http, door.keyring)
    return JSONResponse(await cancellations.cancel_batch(door, by, http.path_params["id"]))


async def cancel_queued(door: Door, http: HttpRequest) -> Response:
    """POST /v1/requests/cancel."""
    by = await reading.caller(http, door.keyring)
    body = await reading.read_json(http, CANCEL_BYTES_MAX)
    wanted = cancellations.read_wanted(canonical_json.parse(body))
    return JSONResponse({"cancelled": await cancellations.cancel_queued(door, by, wanted)})


async def no_batch(door: Door, http: HttpRequest) -> Response:
    """GET /v1/batches/{id}: what is sent to OpenAI is at another path."""
    await reading.tenant(http, door.keyring)
    name = http.path_params["id"]
    raise errors.NotFound(
        f"No batch found with id '{name}'. What was sent to OpenAI is at "
        f"/v1/upstream_batches/{name}.",
        param="id",
    )


async def read_costs(door: Door, http: HttpRequest) -> Response:
    """GET /v1/costs."""
    view = await _view(door, http)
    by = [part.strip() for part in (reading.given(http, "group_by") or "day").split(",")]
    if not set(by) <= set(presenters.GROUPS) or len(set(by)) < len(by):
        raise errors.InvalidParameter(
            f"'group_by' must be some of {', '.join(presenters.GROUPS)}, separated by commas.",
            param="group_by",
        )
    days = reading.whole_number(http, "days", DAYS, DAYS_MAX)
    return JSONResponse(await door.reports.costs(view, days, by))


async def flush(door: Door, http: HttpRequest) -> Response:
    """POST /v1/flush."""
    by = await reading.caller(http, door.keyring)
    return JSONResponse(await door.reports.flush(by), 202)
