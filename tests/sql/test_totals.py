"""Sums since the beginning, over tables that grow for years: the past is read once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from openaibatching.server.billing.totals import Totals
from openaibatching.server.database.pool import Database
from openaibatching.server.database.statements import QUERIES
from support.postgres import Cluster

TEMPLATE = "openaibatching_template"
HOURS = 2000


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> Iterator[str]:
    """A database with an answer and a failure in each of many hours, up to this one."""
    with cluster.database(TEMPLATE) as url, psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute(
            "insert into spending (tenant, hour, endpoint, model, answers, paid)"
            " select 't' || n %% 2, date_trunc('hour', now(), 'UTC') - n * interval '1 hour',"
            "  '/v1/responses', 'm', 1, 0.5 from generate_series(0, %s - 1) as n",
            [HOURS],
        )
        conn.execute(
            "insert into failure (tenant, hour, endpoint, model, status_code, code, n, example)"
            " select tenant, hour, endpoint, model, 400, '', 1, gen_random_uuid() from spending"
        )
        conn.execute("analyze")
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, connections_max=2)
    await database.open()
    yield database
    await database.close()


async def sums(database: Database, totals: Totals) -> tuple[int, float, int]:
    """(answers, USD, failures)."""
    async with database.transaction() as conn:
        spending, failures = await totals.read(conn)
    [spent], [failed] = spending, failures
    return spent.answers, float(spent.paid), failed.n


async def test_what_is_over_is_read_once_and_what_comes_is_added_once(
    database: Database, url: str
) -> None:
    totals = Totals()
    assert await sums(database, totals) == (HOURS, HOURS / 2, HOURS)
    assert await sums(database, totals) == (HOURS, HOURS / 2, HOURS)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        last = "(select max(hour) from spending)"
        conn.execute(f"update spending set answers = 11 where hour = {last}")
        # Nobody does this: it only shows that these hours are not read any more.
        conn.execute(f"update spending set answers = 0 where hour < {last} - interval '2 hours'")
    answers, _, _ = await sums(database, totals)
    assert answers == HOURS + 10


async def test_a_look_after_the_first_reads_two_hours(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        hour = conn.execute("select date_trunc('hour', now(), 'UTC') - interval '1 hour'")
        since = (hour.fetchone() or (None,))[0]
        for name in ("sum_spending", "sum_failures"):
            plan: Any = conn.execute(
                b"explain (analyze, format json) " + QUERIES[name], {"since": since, "tenant": None}
            ).fetchone()
            assert "_by_hour" in str(plan), name
            assert "Seq Scan" not in str(plan), name
