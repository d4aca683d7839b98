"""A server goes on while a newer one migrates its database, and beside that one afterwards."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from openaibatching.server.database.migrations import migrate, schema_version
from openaibatching.server.database.pool import SESSION
from openaibatching.server.database.statements import QUERIES
from openaibatching.simulator import Simulator, running
from support.postgres import ONE_KIND, Cluster
from support.process import ServerProcess, environment, server_process
from support.steps import chat
from support.world import KEY, TLS, http, running_service, settings_for, until

pytestmark = ONE_KIND

TEMPLATE = "openaibatching_template"
# A step that adds to each table, as those of migrations do. The tests have no other version.
STEP = """
do $$
declare name text;
begin
  for name in select relname from pg_class
               where relnamespace = 'openaibatching'::regnamespace
                 and relkind in ('r', 'p') and not relispartition loop
    execute format('alter table openaibatching.%I add column added int not null default 2', name);
  end loop;
end $$;
create table openaibatching.added (n int);
"""


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:
    with cluster.database(TEMPLATE) as url:
        yield url


async def everything(client: httpx2.AsyncClient, tag: str) -> None:
    """What callers, operators and the page's readers ask for, and what the steps do for it."""
    replies: list[httpx2.Response] = []

    async def ask(method: str, path: str, **more: Any) -> Any:
        replies.append(await client.request(method, path, **more))
        return replies[-1]

    call = chat(f"answered {tag}")
    done = await ask("POST", "/v1/chat/completions", json=call, headers={"Prefer": "wait=60"})
    assert done.json()["has_completed"] is True
    id_ = done.json()["batching"]["id"]
    await ask("GET", f"/v1/requests/{id_}")
    await ask("GET", f"/v1/requests/{id_}/events")
    await ask("GET", f"/v1/chat/completions/{done.json()['id']}")
    line = {"custom_id": tag, "method": "POST", "url": "/v1/chat/completions"}
    lines = f"{httpx2.Request('POST', 'http://x', json=line | {'body': call}).content.decode()}\n"
    await ask("POST", "/v1/requests", content=lines, headers={"Content-Type": "application/jsonl"})
    for path in ("requests", "requests?status=completed", "stats", "costs", "upstream_batches"):
        await ask("GET", f"/v1/{path}")
    await ask("POST", "/v1/flush")
    await ask("POST", "/v1/requests/cancel", json={"model": "none"})
    await ask("GET", "/metrics")
    await ask("GET", "/ready")
    await ask("DELETE", f"/v1/requests/{id_}")
    assert [(r.request.url.path, r.text) for r in replies if not r.is_success] == []


def troubles(server: ServerProcess) -> list[str]:
    """The lines of its log that tell of a fault."""
    lines = server.log.read_text().splitlines()
    return [line for line in lines if re.search(r"\[(warning|error|critical)|Traceback", line)]


async def test_a_server_goes_on_through_a_migration_and_beside_a_newer_one(
    url: str, tmp_path: Path
) -> None:
    with running(Simulator(lag=0.0)) as base_url:
        given = environment(base_url, tmp_path, POSTGRES_URL=url, BATCH_LINGER_S=0.02)
        with server_process(given) as old:
            async with httpx2.AsyncClient(
                base_url=old.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, verify=TLS
            ) as client:
                for number in range(3):
                    await everything(client, f"before {number}")
                await migrate(url, wait_s=5, steps={schema_version() + 1: STEP})
                for number in range(3):
                    await everything(client, f"after {number}")
                settings = settings_for(base_url, tmp_path, batch_linger_s=0.02)
                async with running_service(url, settings) as new, http(new) as beside:
                    await everything(beside, "new")
                    await everything(client, "old")
                    await each_finds_what_the_other_took(client, beside)
                    await each_finds_what_the_other_took(beside, client)
            assert troubles(old) == []


async def each_finds_what_the_other_took(
    one: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    call = chat(f"asked at {one.base_url}")
    asked = await one.post("/v1/chat/completions", json=call)
    assert asked.status_code in (200, 202)

    async def answered() -> bool:
        reply = await other.post("/v1/chat/completions", json=call)
        return bool(reply.json()["has_completed"])

    await until(answered)
    assert len((await other.get("/v1/requests?limit=100")).json()["data"]) <= 2


def test_a_statement_that_a_server_has_prepared_is_good_after_the_migration(
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(SESSION)
        given = {name: prepare(conn, name, text) for name, text in QUERIES.items()}
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute(STEP.encode())
        failed = []
        for name, parameters in given.items():
            nulls = f"({', '.join(['null'] * parameters)})" if parameters else ""
            try:
                with conn.transaction(force_rollback=True):
                    conn.execute(f"execute {name} {nulls}".encode(), prepare=False)
            except psycopg.errors.FeatureNotSupported as error:
                failed.append((name, str(error)))  # "cached plan must not change result type"
            except psycopg.Error:
                pass  # it does not take nulls
    assert failed == []


def prepare(conn: psycopg.Connection[Any], name: str, text: bytes) -> int:
    """Prepare the statement under its name; how many parameters it has."""
    names = list(dict.fromkeys(re.findall(rb"%\((\w+)\)", text)))
    for number, each in enumerate(names, 1):
        text = re.sub(rb"%%\(%s\)[sb]" % each, b"$%d" % number, text)
    conn.execute(b"prepare %s as %s" % (name.encode(), text.replace(b"%%", b"%")), prepare=False)
    return len(names)
