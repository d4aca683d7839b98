"""A server behind its door, and OpenAI's stand-in behind it: for tests of what callers see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from openaibatching.server.app import Service
from openaibatching.server.config.settings import DEFAULT_TENANT
from openaibatching.server.domain.request import ID_PREFIX
from openaibatching.simulator import Simulator, running
from support.postgres import Cluster
from support.world import KEY, http, running_service, settings_for, until

TEMPLATE = "openaibatching_template"
OTHER_KEY, BAD_KEY = "key-of-the-other-tenant", "key-of-the-tenant-without-requests"
KEYS = {DEFAULT_TENANT: KEY, "other": OTHER_KEY, "bad": BAD_KEY}
WAIT = {"Prefer": "wait=240"}


@dataclass(frozen=True)
class Door:
    """A running server, its upstream, its tables, and a client for each of its tenants.

    `other` is another tenant, `bad` one that never has a request, `nobody` presents no key.
    """

    service: Service
    simulator: Simulator
    client: httpx2.AsyncClient
    other: httpx2.AsyncClient
    bad: httpx2.AsyncClient
    nobody: httpx2.AsyncClient
    database_url: str

    def rows(self, tenant: str) -> int:
        """How many requests the tenant has in the table, and that bodies have rows too."""
        with psycopg.connect(self.database_url) as conn:
            conn.execute("set search_path = openaibatching")
            row = conn.execute(
                "select count(*), count(p.seq) from request left join body p using (seq)"
                " where tenant = %s",
                [tenant],
            ).fetchone()
        assert row is not None
        assert row[0] == row[1]
        return int(row[0])

    def stored(self, id_: str) -> bytes:
        """The body of a request as it will be sent."""
        with psycopg.connect(self.database_url) as conn:
            conn.execute("set search_path = openaibatching")
            row = conn.execute(
                "select body from body join request using (seq) where id = %s::uuid",
                [id_.removeprefix(ID_PREFIX)],
            ).fetchone()
        assert row is not None
        return bytes(row[0])

    async def in_batch(self, id_: str) -> httpx2.Response:
        """The request's reply, once OpenAI has its batch."""

        async def look() -> httpx2.Response | None:
            reply = await self.client.get(f"/v1/responses/{id_}")
            return reply if reply.json()["batching"]["batch_id"] else None

        reply: httpx2.Response = await until(look)
        return reply

    async def answered(self, body: dict[str, Any], path: str = "/v1/responses") -> httpx2.Response:
        """The reply to a call that is waited for."""
        return await self.client.post(path, json=body, headers=WAIT)


@asynccontextmanager
async def open_door(
    cluster: Cluster,
    folder: Path,
    *,
    lag: float = 0.0,
    simulator: Simulator | None = None,
    **changes: Any,
) -> AsyncIterator[Door]:
    """A door on a database of its own. `lag`: seconds that OpenAI takes for a batch."""
    simulator = simulator or Simulator(lag=lag)
    with cluster.database(TEMPLATE) as url, running(simulator) as base_url:
        settings = settings_for(base_url, folder, **changes)
        async with running_service(url, settings, KEYS) as service:
            first, other, bad, nobody = (http(service, k) for k in (KEY, OTHER_KEY, BAD_KEY, None))
            async with first, other, bad, nobody:
                yield Door(service, simulator, first, other, bad, nobody, url)


def refused(response: httpx2.Response, status: int, code: str, param: str | None = None) -> str:
    """Check a refusal's status and shape; its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.content)
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == code
    assert error["param"] == param
    assert isinstance(error["message"], str)
    assert error["message"]
    for secret in (
        KEY,
        OTHER_KEY,
        BAD_KEY,
        "sk-simulated",
        "Traceback",
        "psycopg",
        "openaibatching/",
    ):
        assert secret not in response.text
    return error["message"]


async def as_scope(door: Door, scope: str, path: str) -> httpx2.Response:
    """What a key of this scope, of the tenant `operators`, reads at `path`."""
    key = "ob_" + scope[0] * 43
    with psycopg.connect(door.database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute(
            "insert into api_key (tenant, name, scope, hint, digest)"
            " values ('operators', %s, %s, '', %s) on conflict do nothing",
            [scope, scope, hashlib.sha256(key.encode()).digest()],
        )

    async def look() -> httpx2.Response | None:
        reply = await door.nobody.get(path, headers={"Authorization": f"Bearer {key}"})
        return reply if reply.status_code == 200 else None

    found: httpx2.Response = await until(look)
    return found


async def all_metrics(door: Door) -> str:
    """The metrics of the server and of all tenants, which no key of a tenant reads."""
    return (await as_scope(door, "metrics", "/metrics")).text
