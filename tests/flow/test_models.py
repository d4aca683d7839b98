"""GET /v1/models: OpenAI's own answers, remembered, and nothing of the server's key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clients.serving import serving
from openaibatching.server.errors import UpstreamUnknown
from openaibatching.server.providers.openai import model_list
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.providers.openai.model_list import REMEMBERED_S, ModelList
from openaibatching.simulator import Simulator, running
from support.door import Door, open_door, refused
from support.postgres import Cluster
from support.world import sdk, settings_for

NAMES = ("gpt-4o", "ft:gpt-4o-mini-2024-07-18:acme::Bx1", "org/model", "org/family/model-1.5")


def asked(door: Door) -> int:
    """How many calls about models have reached OpenAI."""
    return sum(call.path.startswith("/v1/models") for call in door.simulator.requests.latest)


async def test_the_official_sdk_lists_and_reads_models(quiet: Door) -> None:
    for path in ("v1", "ask/v1"):
        async with sdk(quiet.service) as client:
            there = client.with_options(base_url=f"{quiet.service.url}/{path}")
            assert {model.id async for model in there.models.list()} == {"gpt-4o", "gpt-4o-mini"}
            for name in NAMES:
                assert (await there.models.retrieve(name)).id == name


async def test_an_id_may_have_slashes_in_either_form(quiet: Door) -> None:
    for name in NAMES:
        for form in (name, quote(name, safe="")):
            reply = await quiet.client.get(f"/v1/models/{form}")
            assert (reply.status_code, reply.json()["id"]) == (200, name)


async def test_many_callers_are_one_call_to_openai(quiet: Door) -> None:
    before = asked(quiet)
    callers = [quiet.client.get("/v1/models/asked-by-many") for _ in range(20)]
    replies = await asyncio.gather(*callers, quiet.other.get("/v1/models/asked-by-many"))
    assert {reply.status_code for reply in replies} == {200}
    assert asked(quiet) == before + 1


NO_NAMES = (
    "%2e%2e%2Ffiles",
    "a/%2e%2e/%2e%2e/files",
    "a/%2e/b",
    "a//b",
    "/",
    "a%5C..",
    "%00",
    "a%09b",
    "x" * 600,
)


async def test_a_name_that_is_none_does_not_reach_openai(quiet: Door) -> None:
    before = asked(quiet)
    for name in NO_NAMES:
        url = httpx2.URL(quiet.service.url).copy_with(raw_path=f"/v1/models/{name}".encode())
        refused(await quiet.client.get(url), 404, "not_found", "id")
    assert asked(quiet) == before


async def test_an_answer_is_remembered_for_ten_minutes_and_a_404_is_not(tmp_path: Path) -> None:
    now = 0.0
    simulator = Simulator(models=["gpt-4o"])
    with running(simulator) as base_url:
        upstream = Upstream(settings_for(base_url, tmp_path))
        models = ModelList(upstream, lambda: now)
        for at, name, status, calls in (
            (0.0, "gpt-4o", 200, 1),
            (REMEMBERED_S - 1.0, "gpt-4o", 200, 1),
            (REMEMBERED_S + 1.0, "gpt-4o", 200, 2),
            (REMEMBERED_S + 1.0, "", 200, 3),
            (REMEMBERED_S + 1.0, "nothing", 404, 4),
            (REMEMBERED_S + 1.0, "nothing", 404, 5),
        ):
            now = at
            found = await models.read(name)
            assert (found.status, len(simulator.requests.latest)) == (status, calls)
            if status == 404:
                assert b"model_not_found" in found.body
        for number in range(2 * model_list.NAMES_MAX):
            models._asked[str(number)] = models._asked[""]
        assert len(models._asked) <= model_list.NAMES_MAX
        await upstream.close()


@pytest.mark.parametrize(
    ("status", "body", "told", "code"),
    [
        (401, b'{"error":{"message":"Incorrect API key: sk-sim***ted"}}', 502, "upstream_denied"),
        (403, b'{"error":{"message":"Missing scopes for org-canary"}}', 502, "upstream_denied"),
        (500, b'{"error":{"message":"canary"}}', 502, "upstream_unavailable"),
        (503, b"<html>canary</html>", 502, "upstream_unavailable"),
        (200, b"<html>canary</html>", 502, "upstream_unavailable"),
        (200, b'["canary"]', 502, "upstream_unavailable"),
        (404, b"<html>canary</html>", 502, "upstream_unavailable"),
    ],
)
async def test_what_is_about_the_way_or_the_key_is_a_502(
    cluster: Cluster, tmp_path: Path, status: int, body: bytes, told: int, code: str
) -> None:
    async def answer(_: Request) -> Response:
        return Response(body, status, media_type="application/json")

    with serving(Starlette(routes=[Route("/v1/models", answer)])) as url:
        async with open_door(cluster, tmp_path, openai_base_url=f"{url}/v1") as door:
            reply = await door.client.get("/v1/models")
            message = refused(reply, told, code)
    assert not any(word in message for word in ("canary", "sk-", "org-"))


async def test_openais_own_refusal_is_passed_on_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    body = b'{"error": {"message":"Too many.", "type":"requests","param":null,"code":"slow_down"}}'

    async def answer(_: Request) -> Response:
        return Response(body, 429, {"Retry-After": "7"}, "application/json")

    with serving(Starlette(routes=[Route("/v1/models", answer)])) as url:
        async with open_door(cluster, tmp_path, openai_base_url=f"{url}/v1") as door:
            reply = await door.client.get("/v1/models")
    assert (reply.status_code, reply.content) == (429, body)
    assert reply.headers["retry-after"] == "7"


async def test_an_upstream_out_of_reach_is_no_answer(tmp_path: Path) -> None:
    upstream = Upstream(settings_for("http://127.0.0.1:1/v1", tmp_path))
    models = ModelList(upstream)
    for _ in range(2):
        with pytest.raises(UpstreamUnknown):
            await models.read()
    await upstream.close()


async def test_the_sdk_tells_its_own_key_from_the_servers(quiet: Door) -> None:
    async with sdk(quiet.service) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()
