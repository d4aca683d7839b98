"""A transaction that PostgreSQL undoes in favour of another is repeated: nothing of it is lost."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from openaibatching.server.app import Service
from openaibatching.server.database.pool import Database
from openaibatching.server.errors import DatabaseConflict
from openaibatching.server.pipeline.collect import collect_one
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from support.postgres import ONE_KIND, Cluster
from support.steps import chat, look, put
from support.world import Clock, http, until

TEMPLATE = "openaibatching_template"
Rows = psycopg.Connection[tuple[object, ...]]

TIMES = 3


def undo_at_first(rows: Rows, action: str, table: str, errcode: str) -> None:
    """Let PostgreSQL undo the first TIMES of these statements. A sequence is not rolled back."""
    rows.execute("create sequence undone")
    rows.execute(
        f"""create function undo() returns trigger language plpgsql as $$ begin
          if nextval('openaibatching.undone') <= {TIMES} then
            raise exception 'in favour of another' using errcode = '{errcode}';
          end if;
          return null;
        end $$;
        create trigger undo after {action} on {table}
          for each statement execute function undo()""".encode()
    )


@ONE_KIND
@pytest.mark.parametrize("errcode", ["40P01", "40001"])
@pytest.mark.parametrize(
    ("action", "table"),
    [
        ("insert", "request"),  # accepting
        ("insert", "sent"),  # claiming
        ("insert", "batch"),
        ("update", "batch"),  # each step of a batch, and its lease
        ("insert", "result"),  # storing the answers
    ],
)
async def test_an_undone_transaction_is_repeated(
    service: Service, rows: Rows, action: str, table: str, errcode: str
) -> None:
    undo_at_first(rows, action, table, errcode)
    async with http(service) as client:
        reply = await client.post(
            "/v1/chat/completions", json=chat("undone"), headers={"Prefer": "wait=240"}
        )
    assert reply.status_code == 200, reply.text
    assert rows.execute("select last_value from undone").fetchone()[0] > TIMES  # type: ignore[index, operator]


@ONE_KIND
async def test_a_collector_in_a_deadlock_stores_its_answers_the_next_time(
    ctx: Context, clock: Clock, database_url: str, rows: Rows
) -> None:
    requests = await put(ctx, *(chat(f"deadlocked {n}") for n in range(3)))
    for step in (form_one, upload_one, create_one, watch_one):
        clock.advance(60)
        assert await step(ctx)
    first, *_, last = [row[0] for row in rows.execute("select seq from sent order by ctid")]

    async def waits() -> bool:
        found = rows.execute("select count(*) from pg_locks where not granted")
        return found.fetchone() != (0,)

    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        # PostgreSQL undoes the transaction that finds the circle: never this one.
        await other.execute("set search_path = openaibatching; set deadlock_timeout = '1h'")
        async with other.transaction():
            await other.execute("select from sent where seq = %s for update", [last])
            collecting = asyncio.create_task(collect_one(ctx))
            await until(waits)
            await other.execute("select from sent where seq = %s for update", [first])
            await asyncio.wait([collecting])
    assert isinstance(collecting.exception(), DatabaseConflict)
    clock.advance(600)
    assert await collect_one(ctx)
    assert [request.state for request in await look(ctx, requests)] == ["completed"] * 3


@ONE_KIND
async def test_statements_see_what_is_committed_whatever_the_databases_own_level_is(
    cluster: Cluster,
) -> None:
    with cluster.database(TEMPLATE) as url:
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        cluster.execute(f"alter database {name} set default_transaction_isolation = 'serializable'")
        database = Database(url)
        await database.open()
        try:
            async with database.transaction() as conn:
                shown = await (await conn.execute("show transaction_isolation")).fetchone()
        finally:
            await database.close()
    assert shown == ("read committed",)
