"""Keys of the database: two servers of one database, and the command that makes and ends them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest

from openaibatching.server.app import Service
from openaibatching.server.config.settings import Settings
from openaibatching.simulator import Simulator, running
from support.door import TEMPLATE, refused
from support.keys import KeysCommand, beside
from support.postgres import Cluster
from support.servers import LONG_S
from support.world import KEY, http, running_service, settings_for, until

BODY = {"model": "gpt-4o", "input": "whose is this?"}


@dataclass(frozen=True)
class Pair:
    """Two servers of one database."""

    url: str
    services: tuple[Service, Service]

    async def statuses(self, key: str) -> set[int]:
        """How the servers answer whoever presents the key."""
        return {await status(service, key) for service in self.services}

    async def until_all(self, key: str, wanted: int) -> None:
        """Until they all have heard of it: a notification takes its moment."""

        async def look() -> bool:
            return await self.statuses(key) == {wanted}

        await until(look)


async def status(service: Service, key: str) -> int:
    async with http(service, key) as client:
        return (await client.get("/v1/requests?limit=1")).status_code


@pytest.fixture(scope="module")
async def pair(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    simulator = Simulator(lag=LONG_S)
    with cluster.database(TEMPLATE) as url, running(simulator) as base_url:
        settings = settings_for(base_url, tmp_path_factory.mktemp("pair"), batch_linger_s=LONG_S)
        async with (
            running_service(url, settings) as first,
            running_service(url, settings) as second,
        ):
            yield Pair(url, (first, second))


@pytest.fixture
def keys(
    pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> KeysCommand:
    monkeypatch.setenv("POSTGRES_URL", pair.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return KeysCommand(capsys)


async def test_a_new_key_is_good_on_every_server_beside_that_of_the_environment(
    pair: Pair, keys: KeysCommand
) -> None:
    key = await beside(keys.create, "backend")
    assert "backend" in keys.said
    assert key not in keys.said
    await pair.until_all(key, 200)
    assert await pair.statuses(KEY) == {200}
    assert await pair.statuses(key[:-1]) == await pair.statuses(key + "A") == {401}
    async with http(pair.services[0]) as client, http(pair.services[1], key) as other:
        id_ = (await client.post("/v1/responses", json=BODY)).json()["id"]
        assert (await other.get(f"/v1/responses/{id_}")).status_code == 202, "the same tenant"


async def test_a_key_of_a_tenant_sees_that_tenants_requests_only(
    pair: Pair, keys: KeysCommand
) -> None:
    key = await beside(keys.create, "search", "--tenant", "search.v2")
    second = await beside(keys.create, "search, too", "--tenant", "search.v2")
    for made in (key, second):
        await pair.until_all(made, 200)
    first, other = pair.services
    async with http(first, key) as client, http(other, second) as same, http(other) as default:
        id_ = (await client.post("/v1/responses", json=BODY)).json()["id"]
        assert (await same.get(f"/v1/requests/{id_}")).status_code == 200
        refused(await default.get(f"/v1/requests/{id_}"), 404, "not_found", "id")


async def test_a_revoked_key_works_no_more_on_any_server(pair: Pair, keys: KeysCommand) -> None:
    key = await beside(keys.create, "leaked")
    await pair.until_all(key, 200)
    await beside(keys, "revoke", "leaked")
    await pair.until_all(key, 401)
    async with http(pair.services[0], key) as client:
        refused(await client.post("/v1/responses", json=BODY), 401, "invalid_api_key")
    assert [found["state"] for found in await beside(keys.listed, "leaked")] == ["revoked"]


async def test_a_rotated_key_makes_room_for_a_new_one_of_the_same_tenant(
    pair: Pair, keys: KeysCommand
) -> None:
    old = await beside(keys.create, "turned", "--tenant", "turners")
    await pair.until_all(old, 200)
    new = (await beside(keys, "rotate", "turned")).strip()
    await pair.until_all(new, 200)
    await pair.until_all(old, 401)
    found = await beside(keys.listed, "turned")
    assert [(key["tenant"], key["state"]) for key in found] == [
        ("turners", "revoked"), ("turners", "active"),
    ]  # fmt: skip


async def test_a_rotated_key_goes_on_for_its_overlap_and_not_longer(
    pair: Pair, keys: KeysCommand
) -> None:
    old = await beside(keys.create, "overlapped")
    new = (await beside(keys, "rotate", "overlapped", "--overlap-hours", "1")).strip()
    for key in (old, new):
        await pair.until_all(key, 200)
    first, second = await beside(keys.listed, "overlapped")
    assert (first["state"], second["state"]) == ("ending", "active")
    assert 3595 < first["revoked_at"] - second["created_at"] <= 3600
    # By time alone, since nobody announces it.
    newest = (await beside(keys, "rotate", "overlapped", "--overlap-hours", "0.0005")).strip()
    await pair.until_all(newest, 200)
    await pair.until_all(new, 401)
    assert await pair.statuses(old) == {200}
    await beside(keys, "revoke", first["id"])
    await pair.until_all(old, 401)


async def test_the_last_use_of_a_key_is_seen(pair: Pair, keys: KeysCommand) -> None:
    key = await beside(keys.create, "used")
    await beside(keys.create, "unused")
    await pair.until_all(key, 200)

    async def used() -> bool:
        (found,) = await beside(keys.listed, "used")
        return found["last_used_at"] is not None and (
            0 <= found["last_used_at"] - found["created_at"] < 60
        )

    await until(used)
    (unused,) = await beside(keys.listed, "unused")
    assert unused["last_used_at"] is None


async def test_a_server_that_does_not_hear_of_changes_honours_no_revoked_key(
    database_url: str, settings: Settings, cluster: Cluster
) -> None:
    made = [f"ob_{n:043}" for n in range(5)]
    async with running_service(database_url, settings) as service:
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            for key in made:
                conn.execute(
                    "insert into api_key (tenant, name, hint, digest) values ('t', 'n', 'ob_', %s)",
                    [hashlib.sha256(key.encode()).digest()],
                )
            for key in made:
                await until(partial(is_good, service, key))
            before = await interruptions(service)
            # No session can be opened, so the one that listens does not come back.
            cluster.execute(f"alter database {conn.info.dbname} allow_connections false")
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and query like 'listen %'"
            )

            async def noticed() -> bool:
                return await interruptions(service) > before

            await until(noticed)
            for key in made:
                assert await is_good(service, key), "it is asked for"
                conn.execute(
                    "update api_key set revoked_at = now() where digest = %s",
                    [hashlib.sha256(key.encode()).digest()],
                )
                assert await status(service, key) == 401, "with the very next call"
            assert await status(service, KEY) == 200
            cluster.execute(f"alter database {conn.info.dbname} allow_connections true")


async def is_good(service: Service, key: str) -> bool:
    return await status(service, key) == 200


async def interruptions(service: Service) -> float:
    """How often this process has lost a session that listens."""
    async with http(service) as client:
        page = (await client.get("/metrics")).text
    line = 'openaibatching_events_total{event="listening_interrupted"} '
    return sum(float(found.removeprefix(line)) for found in page.splitlines() if line in found)


async def test_a_server_that_stops_writes_down_what_was_used(
    database_url: str, settings: Settings, keys: KeysCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", database_url)
    async with running_service(database_url, settings) as service:
        key = await beside(keys.create, "last")
        await until(lambda: is_good(service, key))
    (found,) = await beside(keys.listed, "last")
    assert found["last_used_at"] is not None
