"""A caller that leaves takes what its waiting call cost with it; its request goes on."""

from __future__ import annotations

import gc
import json

import pytest

from openaibatching.server.api.http import limits
from openaibatching.server.domain.request import Call
from support.door import Door
from support.postgres import ONE_KIND
from support.wire import Wire
from support.world import KEY, until

pytestmark = ONE_KIND

WAIT, AUTH = ("Prefer", "wait=600"), ("Authorization", f"Bearer {KEY}")
JSON, JSONL = ("Content-Type", "application/json"), ("Content-Type", "application/jsonl")
CHUNKED = ("Transfer-Encoding", "chunked")


def calls(door: Door) -> int:
    """How many calls are under way."""
    return len(door.service._server.server_state.tasks)


def waiting(door: Door) -> int:
    """How many wait for their request."""
    return len(door.service._deliverer._waiting)


async def leave(door: Door, wire: Wire, *, half: bool) -> None:
    """Leave, and wait until the server has heard of it."""
    if half:
        wire.close_half()
    else:
        wire.abort()

    async def heard() -> bool:
        return calls(door) == 0 and waiting(door) == 0

    assert await until(heard)
    wire.abort()


async def held(door: Door, *more: tuple[str, str], path: str, content: bytes = b"") -> Wire:
    """A call that waits."""
    wire = await Wire.to(door.service)
    method = "POST" if content else "GET"
    length = [("Content-Length", str(len(content)))] if content else []
    await wire.head(method, path, [AUTH, WAIT, *length, *more])
    await wire.send(content)

    async def waits() -> bool:
        return waiting(door) == 1

    assert await until(waits)
    return wire


@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
async def test_who_waits_for_a_call_and_leaves_is_not_waited_for(patient: Door, half: bool) -> None:
    body = json.dumps({"model": "m", "input": f"left {half}"}).encode()
    wire = await held(patient, JSON, path="/v1/responses", content=body)
    await leave(patient, wire, half=half)
    again = await patient.client.post("/v1/responses", content=body, headers=[JSON])
    assert again.json()["batching"]["status"] == "queued"


@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
async def test_who_asks_later_waits_and_leaves_is_not_waited_for(patient: Door, half: bool) -> None:
    call = await patient.client.post("/v1/responses", json={"model": "m", "input": "left later"})
    wire = await held(patient, path=f"/v1/responses/{call.json()['id']}")
    await leave(patient, wire, half=half)


@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
async def test_calls_behind_the_one_that_waits_do_not_hide_that_their_caller_left(
    patient: Door, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    monkeypatch.setattr(limits, "LOOK_S", 0.05)
    body = json.dumps({"model": "m", "input": f"left behind {half}"}).encode()
    wire = await held(patient, JSON, path="/v1/responses", content=body)
    (connection,) = (
        each
        for each in patient.service._server.server_state.connections
        if isinstance(each, limits.Connection) and each.cycle and each.cycle.more_body is False
        and not each.cycle.response_complete
    )  # fmt: skip

    async def reads_no_more() -> bool:
        await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection.flow.read_paused

    assert await until(reads_no_more)
    await leave(patient, wire, half=half)


async def test_one_of_two_that_wait_for_the_same_leaves_and_the_other_is_answered(
    lively: Door,
) -> None:
    body = json.dumps({"model": "m", "input": "left by one"}).encode()
    wire = await held(lively, JSON, path="/v1/responses", content=body)
    wire.abort()
    reply = await lively.client.post("/v1/responses", content=body, headers=[JSON, WAIT])
    assert reply.json()["batching"]["status"] == "completed"


@pytest.mark.parametrize("order", ["", ", order=finished"])
async def test_who_leaves_a_bulk_call_is_not_waited_for(patient: Door, order: str) -> None:
    line = {"custom_id": "x", "method": "POST", "url": "/v1/responses",
            "body": {"model": "m", "input": "left in bulk"}}  # fmt: skip
    content = json.dumps(line).encode()
    wire = await Wire.to(patient.service)
    length = ("Content-Length", str(len(content)))
    await wire.head("POST", "/v1/requests", [AUTH, ("Prefer", f"wait=600{order}"), JSONL, length])
    await wire.send(content)
    assert b"200 OK" in await wire._reader.readuntil(b"\r\n")
    assert calls(patient) == 1
    await leave(patient, wire, half=False)


async def test_a_call_that_waits_does_not_keep_its_body(patient: Door) -> None:
    body = json.dumps({"model": "m", "input": "kept" * 100_000}).encode()
    wire = await held(patient, JSON, path="/v1/responses", content=body)
    large = [
        found for found in gc.get_objects()
        if isinstance(found, Call) and "kept" in str(found)
    ]  # fmt: skip
    assert large == []
    await leave(patient, wire, half=False)
