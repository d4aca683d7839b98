"""One tenant's calls, requests and models are limited, and no other tenant notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openaibatching import AsyncOpenAIBatching
from openaibatching.server.requests import callers
from support.door import Door, open_door, refused
from support.postgres import ONE_KIND, Cluster
from support.steps import chat
from support.world import KEY, TLS, sdk, until

pytestmark = ONE_KIND

CHAT = "/v1/chat/completions"
JSONL = {"Content-Type": "application/jsonl"}
LONG: dict[str, Any] = {"batch_linger_s": 3600.0}


def limited(reply: httpx2.Response, code: str = "rate_limited") -> str:
    """Check that the reply lets the SDKs try again; its message."""
    message = refused(reply, 429, code)
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert "x-should-retry" not in reply.headers
    return message


async def bulk(door: Door, *bodies: dict[str, Any]) -> list[tuple[int, str | None]]:
    """(status, code of the refusal) of each line."""
    lines = [
        {"custom_id": str(n), "method": "POST", "url": CHAT, "body": body}
        for n, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines))
    reply = await door.client.post("/v1/requests", content=content, headers=JSONL)
    told = [json.loads(line)["response"] for line in reply.text.splitlines()]
    return [(each["status_code"], each["body"].get("error", {}).get("code")) for each in told]


async def test_a_tenant_that_calls_too_often_is_sent_back_whatever_it_calls(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_rate_max="1,other=1000") as door:
        calls = [door.client.post(CHAT, json=chat(f"often {n}")) for n in range(30)]
        calls += [door.client.get(path) for path in ("/v1/stats", "/v1/nothing") for _ in range(30)]
        replies = await asyncio.gather(*calls)
        above = [reply for reply in replies if reply.status_code == 429]
        assert len(above) > 60, "one passes a second"
        for reply in above:
            assert "TENANT_RATE_MAX" in limited(reply)
        replies = await asyncio.gather(*(door.other.get("/v1/stats") for _ in range(30)))
        assert {reply.status_code for reply in replies} == {200}
        assert (await door.client.get("/health")).status_code == 200


async def test_the_sdks_keep_to_the_time_that_they_are_told(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_rate_max="2") as door:
        async with sdk(door.service, max_retries=5) as plain:
            await asyncio.gather(
                *(plain.chat.completions.create(**chat(f"patient {n}")) for n in range(6))
            )
        assert door.rows("default") == 6


async def test_so_many_calls_at_a_time_and_a_held_one_is_a_call(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_concurrency_max="2,other=9") as door:
        held = [
            asyncio.create_task(
                door.client.post(CHAT, json=chat("held"), headers={"Prefer": "wait=5"})
            )
            for _ in range(2)
        ]

        async def full() -> bool:
            return door.service.door.callers.under_way("default") == 2

        await until(full)
        assert "TENANT_CONCURRENCY_MAX" in limited(await door.client.get("/v1/requests/unknown"))
        refused(await door.other.get("/v1/requests/unknown"), 404, "not_found", "id")
        assert [reply.status_code for reply in await asyncio.gather(*held)] == [202, 202]
        # What is refused, unknown or streamed gives its place back, too.
        for _ in range(5):
            assert (await door.client.get("/v1/nothing")).status_code == 404
            assert (await bulk(door, chat("streamed"), {"no": "model"}))[0][0] == 202


async def test_the_bytes_of_one_tenants_bodies_leave_room_for_those_of_others(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "TENANT_BYTES_MAX", 1_000_000)
    large = json.dumps(chat("x" * 600_000)).encode()
    headers = {"Content-Type": "application/json"}
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield large[:-10]
        begun.set()
        await go_on.wait()
        yield large[-10:]

    async with open_door(cluster, tmp_path, **LONG) as door:
        first = asyncio.create_task(door.client.post(CHAT, content=slowly(), headers=headers))
        await begun.wait()

        async def full() -> httpx2.Response | None:
            other = json.dumps(chat("y" * 600_000)).encode()
            reply = await door.client.post(CHAT, content=other, headers=headers)
            return reply if reply.status_code == 429 else None

        limited(await until(full))
        assert (await door.client.post(CHAT, json=chat("small"))).status_code == 202
        assert (await door.other.post(CHAT, content=large, headers=headers)).status_code == 202
        go_on.set()
        assert (await first).status_code == 202
        assert (await door.client.post(CHAT, content=large, headers=headers)).status_code == 202


async def test_the_bytes_of_a_call_that_waits_are_counted_until_it_is_stored(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "TENANT_BYTES_MAX", 1_000_000)
    async with open_door(cluster, tmp_path, **LONG) as door:
        waiting = asyncio.create_task(
            door.client.post(CHAT, json=chat("x" * 600_000), headers={"Prefer": "wait=600"})
        )
        await until(lambda: asyncio.sleep(0, door.rows("default") == 1))

        async def taken() -> bool:  # the server may not have heard of its own commit yet
            reply = await door.client.post(CHAT, json=chat("y" * 600_000))
            return reply.status_code == 202

        try:
            await until(taken)
            assert not waiting.done()
        finally:
            waiting.cancel()


async def test_so_many_requests_are_queued_and_what_is_stored_already_passes(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_queued_max="other=9,default=2") as door:
        ids = [
            (await door.client.post(CHAT, json=chat(f"queued {n}"))).json()["id"] for n in range(2)
        ]
        assert "TENANT_QUEUED_MAX" in limited(await door.client.post(CHAT, json=chat("third")))
        assert await bulk(door, chat("third"), chat("queued 1"), chat("fourth")) == [
            (429, "rate_limited"),
            (202, None),
            (429, "rate_limited"),
        ]
        assert (await door.client.post(CHAT, json=chat("queued 0"))).status_code == 202
        assert (await door.other.post(CHAT, json=chat("third"))).status_code == 202
        assert (await door.client.post(f"/v1/requests/{ids[0]}/cancel")).status_code == 200

        async def taken() -> bool:
            return (await door.client.post(CHAT, json=chat("third"))).status_code == 202

        await until(taken)
        # A retry is a way in like any other.
        limited(await door.client.post(f"/v1/requests/{ids[0]}/retry"))
        assert door.rows("default") == 3


async def test_so_many_models_are_queued_and_a_known_one_always_passes(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_models_max="2,other=9") as door:
        ids = {}
        for model in ("one", "two"):
            reply = await door.client.post(CHAT, json=chat("first", model))
            ids[model] = reply.json()["id"]
        reply = await door.client.post(CHAT, json=chat("first", "three"))
        assert "TENANT_MODELS_MAX" in limited(reply, "too_many_models")
        assert await bulk(door, chat("x", "three"), chat("x", "two"), chat("x", "four")) == [
            (429, "too_many_models"),
            (202, None),
            (429, "too_many_models"),
        ]
        assert (await door.other.post(CHAT, json=chat("x", "three"))).status_code == 202
        await door.client.post(f"/v1/requests/{ids['one']}/cancel")

        async def taken() -> bool:
            return (await door.client.post(CHAT, json=chat("x", "three"))).status_code == 202

        await until(taken)
        limited(await door.client.post(f"/v1/requests/{ids['one']}/retry"), "too_many_models")


async def test_a_server_that_starts_knows_how_many_models_are_queued(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_models_max="1") as door:
        assert (await door.client.post(CHAT, json=chat("x", "one"))).status_code == 202
        door.service.door.quotas._models.clear()  # as after a start
        door.service.door.quotas._read_at.clear()
        limited(await door.client.post(CHAT, json=chat("x", "two")), "too_many_models")


class Recorded(httpx2.AsyncHTTPTransport):
    """What is asked over it."""

    def __init__(self) -> None:
        super().__init__(verify=TLS)
        self.paths: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        return await super().handle_async_request(request)


@pytest.mark.parametrize("wait", [False, True])
async def test_our_clients_come_again_with_what_was_refused_in_a_bulk_call(
    cluster: Cluster, tmp_path: Path, wait: bool
) -> None:
    async with open_door(cluster, tmp_path, **LONG, tenant_models_max="1") as door:
        first = await door.client.post(CHAT, json=chat("first", "one"))
        transport = Recorded()
        async with AsyncOpenAIBatching(
            batch_server_url=door.service.url,
            batch_server_api_key=KEY,
            wait=wait,
            max_retries=9,
            http_client=openai.DefaultAsyncHttpxClient(transport=transport),
        ) as ours:
            calls = asyncio.gather(
                *(ours.chat.completions.create(**chat(f"again {n}", "gpt-4o")) for n in range(3))
            )

            async def asked_twice() -> bool:
                return len(transport.paths) >= 2

            await until(asked_twice)
            assert transport.paths[0] == "/v1/requests"
            await door.client.post(f"/v1/requests/{first.json()['id']}/cancel")

            async def stored() -> bool:
                return door.rows("default") == 4

            await until(stored)
            await door.client.post("/v1/flush")
            replies = await calls
        assert {reply.has_completed for reply in replies} == {wait}


async def test_a_bad_limit_stops_the_start_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"^TENANT_MODELS_MAX must be a whole number"):
        async with open_door(cluster, tmp_path, tenant_models_max="many"):
            pass
