"""A tenant whose answers are never asked for is told, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from openaibatching.cli.remote.status import glance
from support.door import WAIT, Door, open_door
from support.postgres import Cluster
from support.world import KEY, until


@pytest.fixture
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with open_door(cluster, tmp_path_factory.mktemp("unread")) as door:
        yield door


def sql(door: Door, statement: str) -> list[Any]:
    with psycopg.connect(door.database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def age(door: Door, hours: int) -> None:
    """As if all answers had come so much earlier."""
    sql(door, f"update spending set hour = hour - interval '{hours} hours'")


async def stats(door: Door) -> dict[str, Any]:
    return dict((await door.client.get("/v1/stats")).json())


async def answered(door: Door, text: str) -> str:
    """A call that is answered, and whose answer nobody reads."""
    sent = await door.client.post("/v1/responses", json={"model": "gpt-4o", "input": text})
    before = (await stats(door))["requests"]["completed"]

    async def finished() -> bool:
        return bool((await stats(door))["requests"]["completed"] > before)

    if sent.status_code == 202:
        await until(finished)
    return str(sent.headers["x-batching-id"])


async def test_answers_that_nobody_asks_for_are_told_with_what_to_do(door: Door) -> None:
    await answered(door, "a clock says 10:00")
    await answered(door, "a clock says 10:01")
    assert (await stats(door))["unread"] is None  # they are new
    age(door, 3)
    unread = (await stats(door))["unread"]
    assert (unread["answers"], unread["since"] % 3600) == (2, 0)
    assert unread["paid"] > 0
    signed_in = await door.client.post(
        "/sign-in", data={"key": KEY}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert signed_in.status_code == 303
    page = (await door.client.get("/")).text
    for words in ("Nobody asks for these answers", "X-Batching-Body: first", "/ask/v1"):
        assert words in page
    assert "answers that nobody asks for" in repr(glance(await stats(door), "url"))
    assert (await stats(door))["unread"] == unread  # looking is not asking
    age(door, 24 * 7)
    assert (await stats(door))["unread"] is None  # long ago


BULK = {"Content-Type": "application/jsonl"}


async def _call(door: Door, id_: str, text: str) -> None:
    await door.client.post("/ask/v1/responses", json={"model": "gpt-4o", "input": text})


async def _get(door: Door, id_: str, text: str) -> None:
    await door.client.get(f"/v1/responses/{id_}")


async def _described(door: Door, id_: str, text: str) -> None:
    await door.client.get(f"/v1/requests/{id_}")


async def _bulk(door: Door, id_: str, text: str) -> None:
    body = {"model": "gpt-4o", "input": text}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    await door.client.post("/v1/requests", content=json.dumps(line), headers=BULK)


@pytest.mark.parametrize("ask", [_call, _get, _described, _bulk])
async def test_whoever_asks_for_one_is_not_told(door: Door, ask: Any) -> None:
    id_ = await answered(door, "asked for")
    age(door, 3)
    assert (await stats(door))["unread"]["answers"] == 1
    # Neither another call of this tenant's nor another tenant's answer is a reading of this one.
    await door.client.post("/v1/responses", json={"model": "gpt-4o", "input": "new"})
    await door.other.post("/v1/responses", json={"model": "gpt-4o", "input": "o"}, headers=WAIT)

    async def noted(tenant: str) -> list[Any]:
        return sql(door, f"select at from answer_read where tenant = '{tenant}'")

    await until(lambda: noted("other"))
    assert await noted("default") == []
    await ask(door, id_, "asked for")
    [first] = await until(lambda: noted("default"))
    assert (await stats(door))["unread"] is None
    await ask(door, id_, "asked for")
    await door.service._answers_read.close()
    assert await noted("default") == [first]  # once a minute is enough
