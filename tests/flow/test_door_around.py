"""Around the calls: health, readiness with and without a database, metrics, TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from openaibatching.server.api.http.server import listen
from openaibatching.server.domain.states import BATCH_STATES, REQUEST_STATES
from support.certificates import certified, trusting
from support.door import WAIT, Door, open_door, refused
from support.postgres import Cluster
from support.world import http, settings_for, until

HELLO = {"model": "gpt-4o", "input": "Hello"}


async def test_four_paths_need_no_key_but_metrics_does(quiet: Door) -> None:
    for path in ("/health", "/ready", "/openapi.json"):
        reply = await quiet.nobody.get(path)
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/json"
    refused(await quiet.nobody.get("/metrics"), 401, "invalid_api_key")


async def gauges(door: Door) -> dict[tuple[str, str], float]:
    reply = await door.client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, sample.labels.get("status", "")): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


async def test_the_gauges_count_requests_and_batches_by_status(lively: Door) -> None:
    assert (await lively.answered(HELLO)).status_code == 200
    refusal = {"model": "gpt-4o", "input": "[[simulate:status=400]]"}
    assert (await lively.answered(refusal)).status_code == 400

    async def closed() -> bool:
        return (await gauges(lively))["openaibatching_batches", "closed"] >= 1

    await until(closed)
    seen = await gauges(lively)
    requests = {state: seen["openaibatching_requests", state] for state in REQUEST_STATES}
    assert requests == {"queued": 0, "in_progress": 0, "completed": 1, "failed": 1, "cancelled": 0}
    assert sum(seen["openaibatching_batches", state] for state in BATCH_STATES) == len(
        lively.simulator.batches()
    )
    assert seen["openaibatching_queue_oldest_seconds", ""] == 0


def end_sessions(door: Door, cluster: Cluster) -> None:
    """What a restart of PostgreSQL does to its clients."""
    name = psycopg.conninfo.conninfo_to_dict(door.database_url)["dbname"]
    cluster.execute(
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    )


async def test_a_restart_of_the_database_passes_unseen(quiet: Door, cluster: Cluster) -> None:
    # Several at once, so that several connections of the pool are open and then dead.
    reply = await quiet.client.post("/v1/responses", json=HELLO)
    path = f"/v1/requests/{reply.json()['id']}"
    for _ in range(2):
        await asyncio.gather(*(quiet.client.get(path) for _ in range(30)))
        end_sessions(quiet, cluster)
    for _ in range(15):
        assert (await quiet.client.get(path)).status_code == 200
        assert (await quiet.client.get("/v1/requests")).status_code == 200
    end_sessions(quiet, cluster)
    assert (await quiet.client.post("/v1/responses", json=HELLO)).status_code == 202


async def test_without_a_database_it_says_so_and_recovers(quiet: Door, cluster: Cluster) -> None:
    reply = await quiet.client.post("/v1/responses", json=HELLO)
    path = f"/v1/responses/{reply.json()['id']}"
    name = psycopg.conninfo.conninfo_to_dict(quiet.database_url)["dbname"]
    cluster.execute(f"alter database {name} allow_connections false")
    try:
        end_sessions(quiet, cluster)
        assert (await quiet.nobody.get("/health")).status_code == 200
        for answer in await asyncio.gather(
            quiet.nobody.get("/ready"),
            quiet.client.post("/v1/responses", json={**HELLO, "input": "lost?"}),
            quiet.client.get(path),
            quiet.client.get("/v1/requests"),
            quiet.client.get("/metrics"),
        ):
            refused(answer, 503, "database_unavailable")
            assert int(answer.headers["retry-after"]) > 0
    finally:
        cluster.execute(f"alter database {name} allow_connections true")

    async def ready() -> bool:
        return (await quiet.nobody.get("/ready")).status_code == 200

    await until(ready)
    assert (await quiet.client.get(path)).status_code == 202
    assert (await quiet.client.post("/v1/responses", json=HELLO)).status_code == 202


async def test_a_reply_is_sent_at_once_whatever_the_loop(tmp_path: Path) -> None:
    listening = listen(settings_for("http://127.0.0.1:1/v1", tmp_path))
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    async with await asyncio.start_server(
        lambda _, writer: accepted.put_nowait(writer), sock=listening
    ):
        _, caller = await asyncio.open_connection(*listening.getsockname())
        writer = await accepted.get()
        connection = writer.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for end in (writer, caller):
            end.close()
            await end.wait_closed()


@pytest.fixture
async def secure(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Door]:
    """A server that speaks https, by the word of `ca.pem` in the test's folder."""
    async with open_door(cluster, tmp_path, **certified(tmp_path)) as door:
        yield door


async def test_with_a_certificate_the_port_speaks_https_only(secure: Door, tmp_path: Path) -> None:
    door = secure
    assert door.service.url.startswith("https://127.0.0.1:")
    async with http(door.service, verify=trusting(tmp_path)) as client:
        reply = await client.post("/v1/responses", json=HELLO, headers=WAIT)
        assert reply.status_code == 200
        assert reply.json()["has_completed"] is True
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        await door.client.get("/health")
    async with httpx2.AsyncClient() as plain:
        with pytest.raises(httpx2.HTTPError):
            await plain.get(door.service.url.replace("https", "http") + "/health")
