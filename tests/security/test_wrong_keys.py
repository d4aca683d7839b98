"""Keys that are none: counted, held back by address, and never at the cost of a right one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from openaibatching.server import wrong_keys
from openaibatching.server.wrong_keys import TRIES
from support.door import Door, all_metrics, open_door, refused
from support.keys import command
from support.postgres import ONE_KIND, Cluster
from support.world import http, until

pytestmark = ONE_KIND


@pytest.fixture
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("wrong")
    async with open_door(cluster, folder, batch_linger_s=3600) as door:
        yield door


async def test_wrong_keys_are_held_and_a_right_one_is_not(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong_keys, "HOLD_S", 3600.0)
    async with http(door.service, "a-guess") as guesser:
        for _ in range(TRIES):
            refused(await guesser.get("/v1/requests"), 401, "invalid_api_key")
        held = [asyncio.create_task(guesser.get("/v1/requests")) for _ in range(5)]

        async def all_held() -> bool:
            return door.service._keyring.wrong._held == len(held)

        await until(all_held)
        for _ in range(20):
            assert (await door.client.get("/v1/requests")).status_code == 200
            assert (await door.nobody.get("/v1/requests")).status_code == 401, "that is no guess"
        assert not [task for task in held if task.done()]
        monkeypatch.setattr(wrong_keys, "HELD_MAX", len(held))
        refused(await guesser.get("/v1/requests"), 401, "invalid_api_key")
        for task in held:
            task.cancel()


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
