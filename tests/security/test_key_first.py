"""Without a good key nobody learns which paths and methods there are below /v1."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from openaibatching.server.api import app
from openaibatching.server.api.modes import Mode
from support.door import Door, open_door, refused
from support.postgres import ONE_KIND, Cluster

pytestmark = ONE_KIND

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
PUBLIC = {"/health", "/ready", "/openapi.json"}


@pytest.fixture(scope="module")
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with open_door(cluster, tmp_path_factory.mktemp("key"), batch_linger_s=3600) as door:
        yield door


def paths() -> list[str]:
    """Every path of the API, and some that are none."""
    known = {path.replace("{id}", "x") for _, path in app.endpoints() if path.startswith("/v1")}
    return [*sorted(known), "/v1", "/v1/", "/v1/nothing", "/v1/responses/", "/v1//responses"]


@pytest.mark.parametrize("mode", Mode)
async def test_any_path_and_method_is_401_first(door: Door, mode: Mode) -> None:
    for path in paths():
        for method in METHODS:
            reply = await door.nobody.request(method, mode.value + path)
            if method == "HEAD":
                assert reply.status_code == 401
            else:
                refused(reply, 401, "invalid_api_key")
            assert reply.headers["www-authenticate"] == "Bearer"
            assert "allow" not in reply.headers


async def test_a_large_body_without_a_key_still_hears_why(door: Door) -> None:
    reply = await door.nobody.post("/v1/nothing", content=b"x" * 5_000_000)
    refused(reply, 401, "invalid_api_key")


async def test_what_needs_no_key_needs_none(door: Door) -> None:
    for path in PUBLIC:
        assert (await door.nobody.get(path)).status_code == 200
    refused(await door.nobody.get("/nothing"), 404, "unknown_endpoint")
    refused(await door.nobody.put("/health"), 405, "method_not_allowed")
    refused(await door.nobody.get("/v1x"), 404, "unknown_endpoint")
