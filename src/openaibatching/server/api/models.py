"""GET /v1/models: OpenAI's own answers; what concerns this server's key stays with this server."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from openaibatching.server import errors
from openaibatching.server.api.state import Door
from openaibatching.server.providers.openai import model_list
from openaibatching.server.telemetry import logs

log = logs.get()


async def list_models(door: Door, _http: HttpRequest) -> Response:
    """GET /v1/models."""
    return await _pass_on(door, "")


async def read_model(door: Door, http: HttpRequest) -> Response:
    """GET /v1/models/{id}; the id may have slashes."""
    name: str = http.path_params["id"]
    if not model_list.is_name(name):
        raise errors.NotFound(f"No model found with id '{name}'.", param="id")
    return await _pass_on(door, name)


async def _pass_on(door: Door, name: str) -> Response:
    """OpenAI's status and body. Its 401 and 403 are about this server's key, of which the body may
    show a part, so to the caller they are a 502."""
    try:
        found = await door.models.read(name)
    except errors.UpstreamDenied as error:
        log.warning("models_failed", **logs.said(error))
        raise errors.ServerKeyDenied from None
    except errors.UpstreamError as error:
        log.warning("models_failed", **logs.said(error))
        raise errors.UpstreamUnavailable from None
    return Response(found.body, found.status, found.headers, "application/json")
