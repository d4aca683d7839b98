"""`Prefer: wait`: a reply is held back until the request finishes or time is up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from support.door import WAIT, Door, open_door
from support.postgres import Cluster
from support.wire import Wire
from support.world import KEY, sdk


async def accepted(door: Door, text: str) -> str:
    reply = await door.client.post("/v1/responses", json={"model": "m", "input": text})
    assert reply.status_code == 202
    return str(reply.json()["id"])


async def test_a_call_is_answered_when_it_finishes(lively: Door) -> None:
    reply = await lively.answered({"model": "gpt-4o", "input": "wait for me"})
    assert reply.status_code == 200
    assert reply.headers["preference-applied"] == "wait"


@pytest.mark.parametrize("path", ["/v1/responses/", "/v1/chat/completions/"])
async def test_either_get_waits_too(lively: Door, path: str) -> None:
    id_ = await accepted(lively, f"get {path}")
    reply = await lively.client.get(path + id_, headers=WAIT)
    assert (reply.status_code, reply.headers["preference-applied"]) == (200, "wait")


async def test_the_time_is_up_with_a_202(quiet: Door) -> None:
    id_ = await accepted(quiet, "never")
    started = time.monotonic()
    body = {"model": "m", "input": "never"}
    reply = await quiet.client.post("/v1/responses", json=body, headers={"Prefer": "wait=0.2"})
    assert time.monotonic() - started >= 0.2
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "wait")
    assert reply.headers["retry-after"] == "30"
    assert reply.json()["id"] == id_


async def test_nobody_waits_longer_than_wait_s_max(quiet: Door) -> None:
    most = quiet.service.settings.wait_s_max
    id_ = await accepted(quiet, "capped")
    started = time.monotonic()
    reply = await quiet.client.get(
        f"/v1/responses/{id_}", headers={"Prefer": "wait=99999999999999"}
    )
    assert time.monotonic() - started >= most
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "wait")


async def test_without_the_preference_nothing_is_held_back_or_claimed(quiet: Door) -> None:
    reply = await quiet.client.get(f"/v1/responses/{await accepted(quiet, 'at once')}")
    assert reply.status_code == 202
    assert "preference-applied" not in reply.headers


async def test_a_finished_request_is_answered_at_once(lively: Door) -> None:
    body = {"model": "gpt-4o", "input": "done already"}
    first = await lively.answered(body)
    again = await lively.answered(body)
    assert again.content == first.content
    assert again.headers["preference-applied"] == "wait"


async def test_the_reply_in_progress_tells_what_is_known_now(sent: Door) -> None:
    id_ = await accepted(sent, "moved on while waiting")
    await sent.in_batch(id_)
    reply = await sent.client.get(f"/v1/responses/{id_}", headers={"Prefer": "wait=0.05"})
    assert reply.headers["x-batching-status"] == "in_progress"
    assert reply.json()["batching"]["attempts"] == 1


async def test_many_waiting_callers_hear_of_one_answer(lively: Door) -> None:
    gate = lively.simulator.gate("POST /batches")
    body = {"model": "gpt-4o", "input": "many wait"}
    waiting = [asyncio.create_task(lively.answered(body)) for _ in range(30)]
    await asyncio.to_thread(gate.wait_reached)
    gate.release()
    replies = await asyncio.gather(*waiting)
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1


async def test_a_cancelled_request_ends_the_wait(cluster: Cluster, tmp_path: Path) -> None:
    async with open_door(cluster, tmp_path, batch_linger_s=3600, wait_s_max=36_000) as door:
        id_ = await accepted(door, "cancelled while waited for")
        longest = {"Prefer": "wait=36000"}
        waiting = asyncio.create_task(door.client.get(f"/v1/responses/{id_}", headers=longest))
        assert (await door.client.post(f"/v1/requests/{id_}/cancel")).status_code == 200
        assert (await waiting).status_code == 409


async def test_a_caller_that_goes_away_changes_nothing(lively: Door) -> None:
    gate = lively.simulator.gate("POST /batches")
    body = b'{"model":"gpt-4o","input":"gone"}'
    wire = await Wire.to(lively.service)
    await wire.head(
        "POST",
        "/v1/responses",
        [
            ("Authorization", f"Bearer {KEY}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Prefer", "wait=20"),
        ],
    )
    await wire.send(body)
    await asyncio.to_thread(gate.wait_reached)
    wire.abort()
    gate.release()
    reply = await lively.client.post(
        "/v1/responses", content=body, headers={**WAIT, "Content-Type": "application/json"}
    )
    assert reply.status_code == 200
    assert lively.simulator.ledger.count(body) == 1


async def test_the_stock_sdk_can_wait(lively: Door) -> None:
    async with sdk(lively.service) as client:
        reply = await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "wait, SDK"}],
            extra_headers=WAIT,
        )
    assert reply.choices[0].message.content == "You said: wait, SDK"
