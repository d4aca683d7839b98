"""The same call is the same request; a key names it instead of its body."""

from __future__ import annotations

import asyncio
from typing import Any

from openaibatching.server.domain.endpoints import CHAT
from support.door import Door, refused
from support.world import sdk


async def id_of(
    door: Door, body: dict[str, Any], path: str = "/v1/responses", **headers: str
) -> str:
    response = await door.client.post(
        path, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    assert response.status_code == 202, response.text
    id_: str = response.json()["batching"]["id"]
    assert id_ == response.headers["x-batching-id"]
    return id_


async def raw_id(door: Door, body: bytes) -> str:
    response = await door.client.post(
        "/v1/responses", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def test_the_same_call_is_stored_once(quiet: Door) -> None:
    before = quiet.rows("default")
    ids = {
        await raw_id(quiet, b'{"model":"m","input":"one","stream":false,"user":"u"}'),
        await raw_id(
            quiet, b'{ "user" : "u", "background": null, "input": "\\u006fne",\n"model":"m"}'
        ),
        await id_of(quiet, {"input": "one", "user": "u", "model": "m", "background": False}),
    }
    assert len(ids) == 1
    assert quiet.rows("default") == before + 1


async def test_a_hundred_callers_at_once_make_one_request(quiet: Door) -> None:
    before = quiet.rows("default")
    calls = [id_of(quiet, {"model": "m", "input": "crowd"}) for _ in range(100)]
    assert len(set(await asyncio.gather(*calls))) == 1
    assert quiet.rows("default") == before + 1


async def test_numbers_differ_by_their_text(quiet: Door) -> None:
    body = b'{"model":"m","input":"number","temperature":%s}'
    assert await raw_id(quiet, body % b"1") != await raw_id(quiet, body % b"1.0")


async def test_another_endpoint_or_tenant_is_another_request(quiet: Door) -> None:
    body = {"model": "m", "input": "elsewhere"}
    ids = {await id_of(quiet, body), await id_of(quiet, body, "/v1/embeddings")}
    ids.add((await quiet.other.post("/v1/responses", json=body)).headers["x-batching-id"])
    assert len(ids) == 3


async def test_the_host_header_has_no_part_in_it(quiet: Door) -> None:
    body = {"model": "m", "input": "host"}
    plain = await id_of(quiet, body)
    for host in ("evil.example", "[::1]:9", "a%41", ""):
        assert await id_of(quiet, body, Host=host) == plain


async def test_keys_make_several_requests_of_one_body(quiet: Door) -> None:
    body = {"model": "m", "input": "sample"}
    ids = {await id_of(quiet, body, Idempotency_Key=key) for key in ("1", "2", "2", "k" * 255)}
    assert len(ids | {await id_of(quiet, body)}) == 4


async def test_a_key_with_another_body_is_refused_and_changes_nothing(quiet: Door) -> None:
    first = await id_of(quiet, {"model": "m", "input": "reuse"}, Idempotency_Key="reuse")
    before = quiet.rows("default")
    response = await quiet.client.post(
        "/v1/responses",
        json={"model": "m", "input": "reuse?"},
        headers={"Idempotency-Key": "reuse"},
    )
    refused(response, 422, "idempotency_key_reused")
    assert quiet.rows("default") == before
    assert await id_of(quiet, {"model": "m", "input": "reuse"}, Idempotency_Key="reuse") == first


async def test_of_two_bodies_that_arrive_together_under_one_key_one_is_refused(quiet: Door) -> None:
    replies = await asyncio.gather(
        *(
            quiet.client.post(
                "/v1/responses",
                json={"model": "m", "input": f"race {n % 2}"},
                headers={"Idempotency-Key": "race"},
            )
            for n in range(20)
        )
    )
    accepted = {r.request.content for r in replies if r.status_code == 202}
    rejected = {r.request.content for r in replies if r.status_code == 422}
    assert (len(accepted), len(rejected)) == (1, 1)
    assert accepted != rejected


async def test_a_key_is_scoped_to_tenant_and_endpoint(quiet: Door) -> None:
    body = {"model": "m", "input": "scope"}
    ids = {
        await id_of(quiet, body, Idempotency_Key="scope"),
        await id_of(quiet, body, "/v1/embeddings", Idempotency_Key="scope"),
    }
    reply = await quiet.other.post(
        "/v1/responses", json={"model": "m", "input": "!"}, headers={"Idempotency-Key": "scope"}
    )
    ids.add(reply.headers["x-batching-id"])
    assert len(ids) == 3


async def test_a_key_that_is_empty_or_too_long_is_refused(quiet: Door) -> None:
    for key in ("", "k" * 256):
        reply = await quiet.bad.post(
            "/v1/responses", json={"model": "m", "input": "x"}, headers={"Idempotency-Key": key}
        )
        refused(reply, 400, "invalid_idempotency_key")
    assert quiet.rows("bad") == 0


async def test_the_sdk_passes_a_key_along(quiet: Door) -> None:
    async with sdk(quiet.service) as client:
        ids = {
            (
                await client.responses.create(
                    model="m", input="sdk", extra_headers={"Idempotency-Key": key}
                )
            ).id
            for key in ("a", "b", "a")
        }
    assert len(ids) == 2


async def test_messages_on_responses_are_the_chat_completion(quiet: Door) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    reply = await quiet.client.post("/v1/responses", json=body)
    assert reply.json()["object"] == "chat.completion"
    assert reply.json()["id"] == await id_of(quiet, body, CHAT)
    for path in ("/v1/responses/", "/v1/chat/completions/"):
        again = await quiet.client.get(path + reply.json()["id"])
        assert (again.status_code, again.json()) == (202, reply.json())
    described = await quiet.client.get("/v1/requests/" + reply.json()["id"])
    assert described.json()["endpoint"] == CHAT


async def test_a_key_on_messages_is_that_of_the_chat_completion(quiet: Door) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "key"}]}
    assert await id_of(quiet, body, Idempotency_Key="chat") == await id_of(
        quiet, body, CHAT, Idempotency_Key="chat"
    )
