"""No text of a caller's that PostgreSQL cannot store is a mistake of ours, wherever it is sent.

Every path with each of its parameters, every parameter of a query and every header that the server
reads, of the API and of the page: found in the tables of paths and in the source, so that what is
new is covered.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from openaibatching.server.api import app
from openaibatching.server.api.modes import Mode
from openaibatching.server.dashboard import routes as page
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import request_id
from openaibatching.simulator.api.webhooks import sign
from support.door import Door, open_door, refused
from support.postgres import ONE_KIND, Cluster
from support.source import SERVER
from support.world import KEY

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
BAD = ("%00", "a%00b", "%ED%A0%80", "%ff%fe", "%F0%9F%98%80", "x" * 5000, "0000000009" * 500)
TEXTS = ("\0", "a\0b", "\ud800", "x" * 20_000)
SOURCE = "\n".join(path.read_text("utf-8") for path in sorted(SERVER.rglob("*.py")))
QUERY = sorted(
    {*re.findall(r'(?:given|whole_number)\((?:visit\.)?http, "(\w+)"', SOURCE)}
    | {*re.findall(r'query_params\.get(?:list)?\("(\w+)"', SOURCE)}
    | {"limit"}
)
HEADERS = sorted(
    {*re.findall(r'headers(?:\.get(?:list)?\(|\[)"([\w-]+)"', SOURCE)}
    | {*re.findall(r'\bheader\(http, b"([\w-]+)"', SOURCE)}
    | {"cookie"}
)


@pytest.fixture(scope="module")
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("texts")
    async with open_door(
        cluster, folder, batch_linger_s=3600, wait_s_max=0.1, openai_webhook_secret=SECRET
    ) as door:
        reply = await door.client.post(
            "/sign-in", data={"key": KEY}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert reply.status_code == 303
        yield door


def targets() -> Iterator[tuple[str, str]]:
    """(method, path) of everything that is served, under each prefix."""
    for method, path, _ in [*app.ROUTES, *page.ROUTES]:
        for mode in Mode:
            if mode is Mode.EMPTY or path.startswith("/v1"):
                yield method, mode.value + path


async def ask(door: Door, method: str, target: str, **more: object) -> httpx2.Response:
    url = httpx2.URL(door.service.url).copy_with(raw_path=target.encode())
    given = {"Sec-Fetch-Site": "same-origin", **dict(more.pop("headers", {}))}  # type: ignore[call-overload]
    reply: httpx2.Response = await door.client.request(method, url, headers=given, **more)  # type: ignore[arg-type]
    # 502: OpenAI is asked for its models, and the stand-in's reply is passed on or is none.
    assert reply.status_code < 500, (method, target[:80], reply.status_code, reply.text[:200])
    return reply


def test_the_source_names_what_is_tried() -> None:
    assert {"after", "status", "limit", "days", "group_by", "q", "next", "said"} <= set(QUERY)
    assert {"authorization", "idempotency-key", "prefer", "webhook-id", "traceparent"} <= set(
        HEADERS
    )


@ONE_KIND
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:9])
async def test_in_a_path(door: Door, bad: str) -> None:
    for method, path in targets():
        if "{" in path:
            reply = await ask(door, method, re.sub(r"\{[^}]*\}", bad, path))
            assert reply.status_code in (400, 404, 200, 303), (method, path)
            assert reply.status_code >= 400 or "model" in path or "page" in path or method == "POST"


@ONE_KIND
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:9])
async def test_in_a_query(door: Door, bad: str) -> None:
    name = request_id(uuid.UUID(int=0))
    for method, path in targets():
        target = re.sub(r"\{[^}]*\}", name, path)
        await ask(door, method, f"{target}?{'&'.join(f'{each}={bad[:500]}' for each in QUERY)}")
        if method == "GET":
            for each in QUERY:
                await ask(door, method, f"{target}?{each}={bad}")


@ONE_KIND
@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xed\xa0\x80", b"x" * 20_000, b"wait=\xff"])
async def test_in_a_header(door: Door, value: bytes) -> None:
    for method, path in targets():
        target = re.sub(r"\{[^}]*\}", "x", path)
        for name in HEADERS:
            if name not in ("content-length", "host"):  # HTTP's own
                await ask(door, method, target, headers={name: value})


@ONE_KIND
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_in_a_body(door: Door, text: str) -> None:
    members = ("model", "input", "group", "created_before", "custom_id", "idempotency_key", "key",
               "next", "id", "previous_response_id")  # fmt: skip
    whole: dict[str, object] = {"messages": [], **dict.fromkeys(members, text)}
    line: dict[str, object] = {
        "custom_id": text,
        "method": "POST",
        "url": ENDPOINTS[0],
        "body": {"model": "m"},
    }
    for method, path in targets():
        if method != "GET":
            target = re.sub(r"\{[^}]*\}", "x", path)
            for body in (whole, {"model": "m", "input": text, "user": text}):
                content = json.dumps(body)
                media = {"Content-Type": "application/json"}
                await ask(door, method, target, content=content, headers=media)
            form = "&".join(f"{name}=%00%ED%A0%80" for name in members)
            await ask(door, method, target, content=form)
    for one in (line, line | {"idempotency_key": text}, line | {"url": text, "method": text}):
        reply = await ask(
            door, "POST", "/v1/requests", content=json.dumps(one),
            headers={"Content-Type": "application/jsonl"},
        )  # fmt: skip
        output = json.loads(reply.text)
        assert output["custom_id"] == text
        assert output["response"]["status_code"] < 500


@ONE_KIND
@pytest.mark.parametrize("text", ["\0", "batch_\0", "\ud800", "x" * 20_000], ids=ascii)
async def test_in_a_signed_webhook(door: Door, text: str) -> None:
    event = {"object": "event", "type": "batch.completed", "data": {"id": text}}
    body, now = json.dumps(event).encode(), int(time.time())
    for name in ("wh_1", "\xff" * 300):
        given = {"webhook-id": name, "webhook-timestamp": str(now)}
        given["webhook-signature"] = sign(SECRET, name, now, body)
        pairs = {key: value.encode("latin-1") for key, value in given.items()}
        reply = await ask(door, "POST", "/webhooks/openai", content=body, headers=pairs)
        if "x" not in text and name == "wh_1":
            refused(reply, 400, "invalid_value")


@ONE_KIND
async def test_an_id_that_cannot_be_stored_is_like_one_that_is_not_there(door: Door) -> None:
    for path in (
        "/v1/requests/{}",
        "/v1/requests?after={}",
        "/v1/batches/{}",
        "/v1/upstream_batches/{}",
        "/v1/upstream_batches?after={}",
    ):
        for bad in ("%00", "a%00b"):
            refused(await ask(door, "GET", path.format(bad)), 404, "not_found", "id")
