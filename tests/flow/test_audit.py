"""The audit: each deed has its line, with who, from where and in which request; and the command."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

from openaibatching.cli.main import main
from openaibatching.server.auth.audit import ACTIONS, ALONE_MAX, forget
from openaibatching.server.database.pool import Database
from support.browsing import browser, signed_in
from support.door import Door
from support.keys import KeysCommand, beside, command
from support.postgres import ONE_KIND
from support.world import KEY


@ONE_KIND
async def test_each_deed_has_its_line(
    quiet: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", quiet.database_url)
    client = quiet.client
    ids = [
        (await client.post("/v1/responses", json={"model": "m", "input": f"audit {n}"})).json()[
            "id"
        ]
        for n in range(3)
    ]
    done = {
        "cancelled": await client.post(f"/v1/requests/{ids[0]}/cancel"),
        "retried": await client.post(f"/v1/requests/{ids[0]}/retry"),
    }
    again = await client.post(f"/v1/requests/{ids[0]}/cancel")
    done |= {
        "deleted": await client.delete(f"/v1/requests/{ids[0]}"),
        "queue": await client.post("/v1/requests/cancel", json={"model": "m"}),
        # Last, because what is flushed may be in a batch at once.
        "flushed": await client.post("/v1/flush", headers={"X-Forwarded-For": "a, 203.0.113.7"}),
    }
    # What is refused is no deed.
    assert (await client.post(f"/v1/requests/{ids[0]}/cancel")).status_code == 404
    assert (await quiet.other.post(f"/v1/requests/{ids[1]}/cancel")).status_code == 404
    async with browser(quiet.service.url) as page:
        await signed_in(page, KEY)
        await page.post("/sign-out")
    keys = KeysCommand(capsys)
    await beside(keys.create, "audited", "--tenant", "team")
    await beside(keys, "rotate", "audited")
    await beside(keys, "revoke", "audited")
    lines: list[dict[str, Any]] = json.loads(
        await asyncio.to_thread(command, capsys, "audit", "--json")
    )
    assert {line["action"] for line in lines} <= set(ACTIONS)
    assert [line["action"] for line in reversed(lines)] == [
        "cancelled", "retried", "cancelled", "deleted", "cancelled", "flushed", "signed_in",
        "signed_out", "key_created", "key_rotated", "key_revoked",
    ]  # fmt: skip
    by_id = {line["request_id"]: line for line in lines}
    for action, reply in done.items():
        assert reply.is_success
        line = by_id[reply.headers["x-request-id"]]
        assert line["action"] == ("cancelled" if action == "queue" else action)
        assert (line["tenant"], line["key_name"]) == ("default", "BATCH_SERVER_API_KEY")
        via = action == "flushed"
        assert line["address"] == ("203.0.113.7 via 127.0.0.1" if via else "127.0.0.1")
        if action in ("cancelled", "retried", "deleted"):
            assert line["target"] == ids[0]
    assert again.is_success
    assert by_id[done["queue"].headers["x-request-id"]]["n"] == 2
    made = next(line for line in lines if line["action"] == "key_created")
    assert (made["tenant"], made["address"]) == ("team", "local")
    assert made["target"].startswith("audited (submit, ")
    text = await asyncio.to_thread(command, capsys, "audit", "--action", "flushed", "--since", "1h")
    header, row = text.splitlines()
    assert header.split("\t")[1:3] == ["action", "tenant"]
    assert row.split("\t")[1] == "flushed"
    assert (
        await asyncio.to_thread(command, capsys, "audit", "--tenant", "nobody", "--json") == "[]\n"
    )


@ONE_KIND
async def test_what_one_key_does_without_end_becomes_few_lines(
    quiet: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", quiet.database_url)
    times = 5 * ALONE_MAX
    for n in range(times):
        headers = {"X-Forwarded-For": f"203.0.113.{n}"}  # a caller may claim any
        assert (await quiet.other.post("/v1/flush", headers=headers)).status_code == 202
    assert (await quiet.bad.post("/v1/flush")).status_code == 202
    told = ("audit", "--json", "--action", "flushed", "--tenant")
    lines = json.loads(await asyncio.to_thread(command, capsys, *told, "other"))
    assert sum(line["n"] for line in lines) == times
    assert len(lines) < times - ALONE_MAX
    grown = [line for line in lines if line["n"] > 1]
    for line in grown:
        assert (line["target"], line["request_id"]) == ("0 queued", None)
    assert any(line["address"] == "several" for line in grown)
    (alone,) = json.loads(await asyncio.to_thread(command, capsys, *told, "bad"))
    assert (alone["n"], alone["target"]) == (1, "0 queued"), "others keep lines of their own"


@ONE_KIND
async def test_a_deed_that_is_undone_leaves_no_line_and_old_lines_go(quiet: Door) -> None:
    database = Database(quiet.database_url)
    await database.open()
    with psycopg.connect(quiet.database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute(
            "insert into audit (at, action, target)"
            " select now() - make_interval(days => days), 'flushed', 'old ' || days"
            " from unnest(array[89, 91]) as days"
        )
        async with database.transaction() as own:
            await forget(own)
        left = conn.execute("select target from audit where target like 'old %'").fetchall()
    assert left == [("old 89",)]
    await database.close()


@pytest.mark.parametrize(
    "arguments", [("--since", "7"), ("--limit", "0"), ("--limit", "x"), ("--action", "looked")]
)
def test_misuse_is_said_before_the_database_is_asked(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", "postgresql://nowhere.invalid/")
    with pytest.raises(SystemExit) as end:
        main(["audit", *arguments])
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err
