"""What a key may do by its scope, and that all it has begun ends with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx2
import openai
import psycopg
import pytest

from openaibatching.server.api import app
from openaibatching.server.api.modes import Mode
from support.door import Door, refused
from support.keys import KeysCommand, beside
from support.postgres import ONE_KIND
from support.world import http, sdk, until

pytestmark = ONE_KIND

BODY = {"model": "gpt-4o", "input": "who may ask this?"}
JSONL = {"Content-Type": "application/jsonl"}
SCOPES = ("submit", "read", "metrics", "admin")
HOLD = {"Prefer": "wait=60"}


@dataclass
class Keys:
    """The command on the server's database, and clients with the keys that it has made."""

    door: Door
    command: KeysCommand
    stack: AsyncExitStack
    made: dict[str, str] = field(default_factory=dict)

    async def client(self, name: str, *more: str) -> httpx2.AsyncClient:
        """A client with a new key, which the server has heard of."""
        key = self.made[name] = await beside(self.command.create, name, *more)
        client = await self.stack.enter_async_context(http(self.door.service, key))

        async def known() -> bool:
            return (await client.get("/v1/requests")).status_code != 401

        await until(known)
        return client


@pytest.fixture
async def keys(
    patient: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Keys]:
    """On a server on which what is queued stays queued."""
    monkeypatch.setenv("POSTGRES_URL", patient.database_url)
    async with AsyncExitStack() as stack:
        yield Keys(patient, KeysCommand(capsys), stack)


def allowed(scope: str, method: str) -> bool:
    """By the contract: `read` only reads, `metrics` does nothing here."""
    return scope in ("submit", "admin") or (scope == "read" and method == "GET")


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_scope_on_each_path(keys: Keys, scope: str) -> None:
    client = await keys.client(f"each {scope}", "--tenant", "each", "--scope", scope)
    paths = [(method, path) for method, path in app.endpoints() if path.startswith("/v1")]
    assert len(paths) > 20
    for mode in Mode:
        for method, path in [*paths, ("GET", "/v1/nothing"), ("PUT", "/v1/nothing")]:
            reply = await client.request(method, mode.value + path.replace("{id}", "x"), json={})
            if allowed(scope, method):
                assert reply.status_code not in (401, 403), (method, path, reply.text)
            else:
                said = refused(reply, 403, "insufficient_scope")
                assert f"scope '{scope}'" in said
                assert "insufficient_scope" in reply.headers["www-authenticate"]
    assert (await client.get("/metrics")).status_code == 200


async def test_a_key_that_only_reads_reads_what_its_tenant_has_asked(keys: Keys) -> None:
    writes = await keys.client("writes", "--tenant", "team")
    reads = await keys.client("reads", "--tenant", "team", "--scope", "read")
    id_ = (await writes.post("/v1/responses", json=BODY)).json()["id"]
    async with sdk(keys.door.service, keys.made["reads"]) as stock:
        assert (await stock.responses.retrieve(id_)).id == id_
        with pytest.raises(openai.PermissionDeniedError, match="may not change anything"):
            await stock.responses.create(model="gpt-4o", input="something else")
        with pytest.raises(openai.PermissionDeniedError):
            await stock.responses.cancel(id_)
    line = {"custom_id": "x", "method": "POST", "url": "/v1/responses", "body": {**BODY, "n": 1}}
    bulk = await reads.post("/v1/requests", content=json.dumps(line).encode(), headers=JSONL)
    refused(bulk, 403, "insufficient_scope")
    listed = (await writes.get("/v1/requests")).json()["data"]
    assert [(request["id"], request["status"]) for request in listed] == [(id_, "queued")]


async def test_a_scope_that_this_version_does_not_know_may_do_nothing(keys: Keys) -> None:
    client = await keys.client("newer", "--scope", "read")
    with psycopg.connect(keys.door.database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute("alter table api_key drop constraint api_key_scope_check")
        conn.execute("update api_key set scope = 'newer' where name = 'newer'")
        conn.execute("notify openaibatching, 'keys'")

    async def forbidden() -> bool:
        return (await client.get("/v1/requests")).status_code == 403

    await until(forbidden)
    refused(await client.get("/metrics"), 403, "insufficient_scope")


async def held(keys: Keys, client: httpx2.AsyncClient) -> asyncio.Task[httpx2.Response]:
    """A call that is accepted and held."""
    before = keys.door.rows("default")
    task = asyncio.create_task(
        client.post("/v1/responses", json={**BODY, "input": f"held {before}"}, headers=HOLD)
    )

    async def accepted() -> bool:
        return keys.door.rows("default") > before

    await until(accepted)
    return task


async def test_a_held_call_ends_with_its_key_and_its_request_goes_on(keys: Keys) -> None:
    client = await keys.client("leaked")
    waiting = await held(keys, client)
    other = await held(keys, keys.door.client)
    await beside(keys.command, "revoke", "leaked")
    async with asyncio.timeout(20):
        refused(await waiting, 401, "invalid_api_key")
    assert not other.done(), "a call of another key of the same tenant goes on"
    other.cancel()
    listed = (await keys.door.client.get("/v1/requests")).json()["data"]
    assert [request["status"] for request in listed[:2]] == ["queued"] * 2


async def test_a_held_call_ends_when_its_key_expires(keys: Keys) -> None:
    client = await keys.client("short", "--expires", "3s")
    waiting = await held(keys, client)
    async with asyncio.timeout(20):
        refused(await waiting, 401, "invalid_api_key")
    refused(await client.get("/v1/requests"), 401, "invalid_api_key")


@pytest.mark.parametrize("prefer", ["wait=60", "wait=60, order=finished"])
async def test_a_stream_of_held_lines_ends_with_its_key(keys: Keys, prefer: str) -> None:
    name = f"streams {prefer}"
    client = await keys.client(name)
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/responses",
         "body": {**BODY, "input": f"{prefer} {n}"}}
        for n in range(3)
    ]  # fmt: skip
    content = b"\n".join(json.dumps(line).encode() for line in lines)
    async with (
        asyncio.timeout(20),
        client.stream(
            "POST", "/v1/requests", content=content, headers={**JSONL, "Prefer": prefer}
        ) as reply,
    ):
        assert reply.status_code == 200
        await beside(keys.command, "revoke", name)
        told = [json.loads(line) async for line in reply.aiter_lines()]
    assert sorted(line["custom_id"] for line in told) == ["0", "1", "2"]
    for line in told:
        assert line["response"]["status_code"] == 401
        assert line["response"]["body"]["error"]["code"] == "invalid_api_key"


async def test_lines_that_arrive_after_the_end_of_their_key_are_not_stored(keys: Keys) -> None:
    client = await keys.client("uploads", "--tenant", "uploads")
    revoked = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        for n in range(600):
            if n == 300:

                async def stored() -> bool:
                    return keys.door.rows("uploads") > 0

                await until(stored)
                await beside(keys.command, "revoke", "uploads")

                async def ended() -> bool:
                    return (await client.get("/v1/requests")).status_code == 401

                await until(ended)
                revoked.set()
            body = {**BODY, "input": f"upload {n}"}
            line = {"custom_id": str(n), "method": "POST", "url": "/v1/responses", "body": body}
            yield json.dumps(line).encode() + b"\n"

    reply = await client.post("/v1/requests", content=lines(), headers=JSONL)
    assert revoked.is_set()
    refused(reply, 401, "invalid_api_key")
    assert 0 < keys.door.rows("uploads") <= 300
