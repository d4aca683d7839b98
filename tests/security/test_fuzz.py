"""Whatever is sent to the door: an answer in OpenAI's shape, never a mistake of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.api.http import limits, reading
from openaibatching.server.domain.endpoints import ENDPOINTS
from security.strategies import (
    JSONL,
    as_json,
    bodies,
    good,
    headers,
    many,
    request,
    spoiled,
    steady,
)
from support.door import Door, open_door
from support.postgres import ONE_KIND, Cluster
from support.wire import Reply, Wire

pytestmark = ONE_KIND

JSON = b"application/json"


@pytest.fixture(scope="module")
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server that gives up at once what does not come to its end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "HEAD_S", 0.05)
        patched.setattr(limits, "LOOK_S", 0.02)
        patched.setattr(reading, "BODY_IDLE_S", 0.05)
        folder = tmp_path_factory.mktemp("fuzz")
        async with open_door(cluster, folder, batch_linger_s=3600, wait_s_max=0.1) as door:
            yield door


async def told(door: Door, data: bytes) -> Reply | None:
    """The reply to what is sent, or None if the server closes without one."""
    wire = await Wire.to(door.service)
    try:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await wire.send(data)
            while (reply := await wire.reply()).status == 100:
                pass
            return reply
        return None
    finally:
        wire.abort()


def well_formed(status: int, body: bytes) -> None:
    assert 200 <= status < 500, (status, body)
    if status >= 400:
        error = json.loads(body)["error"]
        assert list(error) == ["message", "type", "param", "code"]


@given(body=bodies, path=st.sampled_from(ENDPOINTS))
@steady
async def test_any_body_is_answered(door: Door, body: bytes, path: str) -> None:
    reply = await door.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert reply.headers["content-type"] == "application/json"
    well_formed(reply.status_code, reply.content)


@given(body=many)
@steady
async def test_any_lines_are_answered_each_in_its_own(door: Door, body: bytes) -> None:
    media = {"Content-Type": "application/jsonl"}
    reply = await door.client.post("/v1/requests", content=body, headers=media)
    assert reply.status_code == 200
    sent = [line for line in body.split(b"\n") if line.strip(b"\r \t")]
    output = [json.loads(line) for line in reply.content.split(b"\n")[:-1]]
    assert len(output) == len(sent)
    for line in output:
        well_formed(line["response"]["status_code"], as_json(line["response"]["body"]))


@given(more=headers, body=good, path=st.sampled_from(("/v1/responses", "/v1/requests")))
@steady
async def test_any_headers_are_answered(
    door: Door, more: list[tuple[bytes, bytes]], body: bytes, path: str
) -> None:
    media = JSONL if path == "/v1/requests" else JSON
    reply = await told(door, request(path, body, more, media))
    assert reply is not None
    well_formed(reply.status, reply.content)


@given(data=spoiled(good.map(lambda body: request("/v1/responses", body, [], JSON))))
@steady
async def test_any_bytes_are_answered_or_given_up(door: Door, data: bytes) -> None:
    reply = await told(door, data)
    if reply is not None:
        well_formed(reply.status, reply.content)
