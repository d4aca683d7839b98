"""A database of version 1, with requests in all states, becomes one of this version."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from openaibatching.server.db import migrate
from support.postgres import Cluster

VERSION_1 = Path(__file__).with_name("version_1.sql").read_text("utf-8")
COMMENT = re.compile(r"--.*")
SHAPES = {
    "columns": "select table_name, column_name, data_type, is_nullable, column_default"
    " from information_schema.columns where table_schema = 'openaibatching'",
    "indexes": "select indexdef from pg_indexes where schemaname = 'openaibatching'",
    "checks": "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = 'openaibatching'::regnamespace",
    "functions": "select proname, prosrc, proconfig from pg_proc"
    " where pronamespace = 'openaibatching'::regnamespace",
    "triggers": "select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
    "views": "select viewname, definition from pg_views where schemaname = 'openaibatching'",
}
FILLED = """
insert into openaibatching.batch (id, state, endpoint, model, requests, bytes, tokens, upstream_id,
    input_file_id, completed, created_at, closed_at)
values ('00000000-0000-0000-0000-000000000001', 'closed', '/v1/responses', 'm', 2, 9, 9, 'batch_1',
        'f', 2, now() - interval '2 hours', now()),
       ('00000000-0000-0000-0000-000000000002', 'submitted', '/v1/responses', 'm', 3, 9, 9,
        'batch_2', 'f', 0, now(), null);
insert into openaibatching.request (id, body_id, tenant, endpoint, model, state, batch_id,
    line_bytes, tokens, inputs, status_code, finished_at)
select gen_random_uuid(), gen_random_uuid(), tenant, '/v1/responses', 'm', state, batch, 9, 9, 1,
       case when state = 'completed' then 200 end, case when state = 'completed' then now() end
  from (values ('a', 'completed', '00000000-0000-0000-0000-000000000001'::uuid),
               ('b', 'completed', '00000000-0000-0000-0000-000000000001'),
               ('a', 'in_progress', '00000000-0000-0000-0000-000000000002'),
               ('a', 'in_progress', '00000000-0000-0000-0000-000000000002'),
               ('b', 'in_progress', '00000000-0000-0000-0000-000000000002'),
               ('b', 'queued', null)) as r(tenant, state, batch);
"""


@pytest.fixture
async def migrated(cluster: Cluster) -> AsyncIterator[str]:
    """A filled database of version 1, brought to this one."""
    with cluster.database() as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(VERSION_1.encode())
            conn.execute(FILLED.encode())
        await migrate(url, wait_s=5)
        yield url


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        conn.execute("set search_path = openaibatching")
        return conn.execute(query.encode()).fetchall()


def shape(url: str, query: str) -> Iterator[str]:
    """Each row as text, without comments, which stand in schema.sql alone."""
    for row in asked(url, query):
        yield " ".join(" ".join(COMMENT.sub("", str(value)).split()) for value in row)


@pytest.mark.parametrize("what", SHAPES)
async def test_it_has_the_shape_of_a_fresh_one(migrated: str, database_url: str, what: str) -> None:
    assert sorted(shape(migrated, SHAPES[what])) == sorted(shape(database_url, SHAPES[what]))


async def test_counts_are_kept_and_now_by_tenant(migrated: str) -> None:
    counted = asked(migrated, "select what, tenant, state, sum(n)::int from tally group by 1, 2, 3")
    assert sorted(counted) == [
        ("batch", "", "closed", 1),
        ("batch", "", "submitted", 1),
        ("request", "a", "completed", 1),
        ("request", "a", "in_progress", 2),
        ("request", "b", "completed", 1),
        ("request", "b", "in_progress", 1),
        ("request", "b", "queued", 1),
    ]


async def test_batches_have_their_tenants_in_their_order(migrated: str) -> None:
    shares = asked(
        migrated,
        "select tenant, upstream_id, s.requests from share s join batch b on b.id = s.batch_id"
        " order by tenant, seq",
    )
    assert shares == [("a", "batch_1", 1), ("a", "batch_2", 2), ("b", "batch_1", 1),
                      ("b", "batch_2", 1)]  # fmt: skip
