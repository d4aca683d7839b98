"""Keys that are none: counted, held back by address, and never at the cost of a right one."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import httpx2
import pytest
from structlog.testing import capture_logs

from openaibatching.server.auth import wrong_keys
from openaibatching.server.auth.addresses import Address
from openaibatching.server.auth.wrong_keys import HELD_OF_ONE_MAX
from support.door import Door, all_metrics, open_door, refused
from support.keys import command
from support.postgres import ONE_KIND, Cluster
from support.world import http, until

pytestmark = ONE_KIND

BAD = "198.51.100.1"
Guesses = list[asyncio.Task[httpx2.Response]]


@pytest.fixture(scope="module")
async def holding(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """A server on which a refusal that is held is held for good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrong_keys, "HOLD_S", 100_000.0)
        async with open_door(cluster, tmp_path_factory.mktemp("wrong")) as door:
            yield door


@pytest.fixture
async def attacker(holding: Door) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(
        base_url=holding.service.url, limits=limits, timeout=None, trust_env=False
    ) as client:
        yield client


async def guess(
    client: httpx2.AsyncClient, address: str, path: str = "/v1/requests"
) -> httpx2.Response:
    """A key that nobody has, from there, through a proxy."""
    key = secrets.token_hex(16)
    headers = {"X-Forwarded-For": f"{secrets.randbelow(255)}.0.0.1, {address}"}
    if path == "/sign-in":
        headers["Origin"] = str(client.base_url).rstrip("/")
        return await client.post(path, data={"key": key}, headers=headers)
    headers["Authorization"] = f"Bearer {key}"
    return await client.get(path, headers=headers)


async def exhaust(client: httpx2.AsyncClient, address: str, path: str) -> Guesses:
    """Guess until the address has no try left, and no more refusals of it are held; those held."""
    tasks: Guesses = []

    async def full() -> bool:
        tasks.append(asyncio.create_task(guess(client, address, path)))
        done = [task.result() for task in tasks if task.done()]
        assert {reply.status_code for reply in done} <= {401}
        return any(reply.headers.get("connection") == "close" for reply in done)

    await until(full)
    held: Guesses = []

    async def settled() -> bool:
        held[:] = [task for task in tasks if not task.done()]
        return len(held) == HELD_OF_ONE_MAX

    await until(settled)
    return held


@pytest.mark.parametrize(
    ("path", "address"),
    [("/v1/requests", BAD), ("/metrics", "198.51.100.2"), ("/sign-in", "198.51.100.3")],
)
async def test_a_wrong_key_is_held_and_a_right_one_from_the_same_address_is_not(
    holding: Door, attacker: httpx2.AsyncClient, path: str, address: str
) -> None:
    held = await exhaust(attacker, address, path)
    honest = {"X-Forwarded-For": address}
    assert (await holding.client.get("/v1/requests", headers=honest)).status_code == 200
    refused(await holding.nobody.get("/v1/requests", headers=honest), 401, "invalid_api_key")
    refused(await guess(attacker, "2001:db8::" + address[-1]), 401, "invalid_api_key")
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_one_network_is_one_address(holding: Door, attacker: httpx2.AsyncClient) -> None:
    held = await exhaust(attacker, "2001:db8:1::1", "/v1/requests")
    for other in ("2001:db8:1::2", "2001:db8:1::ffff:1"):
        assert (await guess(attacker, other)).headers["connection"] == "close"
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


@pytest.fixture
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("wrong")
    async with open_door(cluster, folder, batch_linger_s=3600) as door:
        yield door


async def test_wrong_keys_are_counted_and_written_in_few_lines(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(wrong_keys, "HOLD_S", 0.0)
    monkeypatch.setenv("POSTGRES_URL", door.database_url)
    line = "openaibatching_wrong_keys_total "
    before = await all_metrics(door)
    async with http(door.service, "a-guess") as guesser:
        for _ in range(40):
            await guesser.get("/v1/requests")
        guesser.headers["Origin"] = door.service.url
        assert (await guesser.post("/sign-in", data={"key": "a-guess"})).status_code == 401
    after = await all_metrics(door)
    counts = [float(page.partition("\n" + line)[2].split("\n")[0]) for page in (before, after)]
    assert counts[1] - counts[0] >= 41
    await door.service._keyring.wrong.write()
    lines = json.loads(await asyncio.to_thread(command, capsys, "audit", "--json"))
    wrong = [each for each in lines if each["action"] == "wrong_key"]
    assert sum(each["n"] for each in wrong) >= 41
    assert {each["address"] for each in wrong} == {"127.0.0.1"}
    assert len(wrong) <= 3, "not a line for each"
    logged = [r for r in caplog.records if r.getMessage() == "wrong_keys"]
    assert 1 <= len(logged) <= 3
    assert "a-guess" not in json.dumps(lines) + caplog.text


async def test_many_addresses_are_few_lines_of_the_audit_and_little_memory(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wrong_keys, "HOLD_S", 0.0)
    monkeypatch.setattr(wrong_keys, "WRITTEN_MAX", 2)
    monkeypatch.setattr(wrong_keys, "ADDRESSES_MAX", 4)
    monkeypatch.setenv("POSTGRES_URL", door.database_url)
    wrong = wrong_keys.WrongKeys(door.service.database)
    for last in (1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6):
        address = f"203.0.113.{last}"
        await wrong.note(Address(address, address), "an id")
    with capture_logs() as events:
        await wrong.write()
    assert [(event["count"], event["addresses"]) for event in events] == [(11, 5)], "4 and others"
    lines = json.loads(
        await asyncio.to_thread(command, capsys, "audit", "--json", "--action", "wrong_key")
    )
    ours = {each["address"]: each["n"] for each in lines if each["address"] != "127.0.0.1"}
    assert ours == {"203.0.113.1": 4, "203.0.113.2": 3, "others": 4}
