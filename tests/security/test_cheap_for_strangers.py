"""What anybody may ask without a key costs us next to nothing, however often it is asked."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from structlog.testing import capture_logs

from openaibatching.server.database.readiness import REMEMBERED_S
from openaibatching.server.telemetry import counters
from openaibatching.server.telemetry.limited_log import EVERY_S, Sparing
from support.door import Door, refused
from support.postgres import Cluster
from support.world import until

ASKED = 200


# ----- /openapi.json -----


async def test_the_document_is_sent_once_to_whoever_keeps_it(quiet: Door) -> None:
    first = await quiet.nobody.get("/openapi.json")
    assert first.status_code == 200
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    assert json.loads(first.content)["openapi"].startswith("3.1")
    for given in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        again = await quiet.nobody.get("/openapi.json", headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    for given in ('"another"', etag.strip('"'), ""):
        whole = await quiet.nobody.get("/openapi.json", headers={"If-None-Match": given})
        assert (whole.status_code, whole.content) == (200, first.content)


async def test_the_document_is_made_once(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (await quiet.nobody.get("/openapi.json")).content
    monkeypatch.setattr(
        "openaibatching.server.api.openapi.document.document", None
    )  # made anew, it would fail
    assert (await quiet.nobody.get("/openapi.json")).content == before


# ----- /ready -----


async def test_many_who_ask_at_once_are_one_check(quiet: Door) -> None:
    readiness, looked = quiet.service.readiness, 0
    ask = readiness._ask

    async def counting() -> str | None:
        nonlocal looked
        looked += 1
        return await ask()

    readiness.forget()
    readiness._ask = counting  # type: ignore[method-assign]
    began = asyncio.get_running_loop().time()
    try:
        replies = await asyncio.gather(*(quiet.nobody.get("/ready") for _ in range(ASKED)))
    finally:
        readiness._ask = ask  # type: ignore[method-assign]
    assert {reply.status_code for reply in replies} == {200}
    lasted = asyncio.get_running_loop().time() - began
    assert 1 <= looked <= 1 + lasted / REMEMBERED_S


async def test_one_who_goes_away_does_not_end_the_check_of_the_others(quiet: Door) -> None:
    readiness = quiet.service.readiness
    readiness.forget()
    gone = asyncio.create_task(readiness.why_not())
    stays = asyncio.create_task(readiness.why_not())
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays is None
    assert gone.cancelled()


async def test_a_database_that_is_lost_is_no_longer_remembered_as_there(
    quiet: Door, cluster: Cluster
) -> None:
    assert (await quiet.nobody.get("/ready")).status_code == 200
    name = psycopg.conninfo.conninfo_to_dict(quiet.database_url)["dbname"]
    cluster.execute(f"alter database {name} allow_connections false")
    try:
        cluster.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )

        async def is_refused() -> bool:
            return (await quiet.nobody.get("/ready")).status_code == 503

        await until(is_refused)
        refused(await quiet.nobody.get("/ready"), 503, "database_unavailable")
    finally:
        cluster.execute(f"alter database {name} allow_connections true")

    async def is_ready() -> bool:
        return (await quiet.nobody.get("/ready")).status_code == 200

    await until(is_ready)


# ----- log lines -----


async def test_forged_webhooks_are_one_line_in_a_while_and_all_are_counted(quiet: Door) -> None:
    counter = counters.EVENTS.labels("webhook_refused")
    before = counter._value.get()
    began = asyncio.get_running_loop().time()
    with capture_logs() as lines:
        for _ in range(ASKED):
            refused(await quiet.nobody.post("/webhooks/openai", json={}), 400, "invalid_signature")
    logged = [line for line in lines if line["event"] == "webhook_refused"]
    lasted = asyncio.get_running_loop().time() - began
    assert len(logged) <= 1 + lasted / EVERY_S
    # Those that are logged are counted where they are written, which this test has replaced.
    assert counter._value.get() - before == ASKED - len(logged)


def test_a_line_says_how_often_it_happened_since_the_last_one() -> None:
    now = 100.0
    sparing = Sparing("some_event", every_s=10, clock=lambda: now)
    said = []
    for at in (100.0, 101.0, 109.9, 110.0, 110.5, 300.0):
        now = at
        said.append(sparing.times())
    assert said == [1, 0, 0, 3, 0, 2]
