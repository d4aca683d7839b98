"""Queries that must cost the same however many rows are stored: their plans use the indexes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from openaibatching.server.db import QUERIES
from support.postgres import Cluster

TEMPLATE = "openaibatching_template"
STORED, QUEUED = 60_000, 20_000


@pytest.fixture(scope="module")
def full(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A database with many finished and many queued requests, of several models and tenants."""
    with cluster.database(TEMPLATE) as url, psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute(
            "insert into request (id, body_id, tenant, endpoint, model, state, line_bytes, tokens,"
            " inputs, status_code, queued_at, finished_at)"
            " select gen_random_uuid(), gen_random_uuid(), 't' || n %% 3, '/v1/responses',"
            "  'm' || n %% 5, case when n <= %(stored)s then 'completed' else 'queued' end, 500,"
            "  100, 1, 200, now() - n * interval '1 s',"
            "  case when n <= %(stored)s then now() - n * interval '1 s' end"
            " from generate_series(1, %(stored)s + %(queued)s) as n",
            {"stored": STORED, "queued": QUEUED},
        )
        conn.execute("analyze")
        yield conn


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explained(conn: psycopg.Connection[Any], name: str, **params: Any) -> list[dict[str, Any]]:
    """The nodes of the query's plan, as it ran."""
    statement = b"explain (analyze, format json) " + QUERIES[name]
    row = conn.execute(statement, params).fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return list(nodes(plan[0]["Plan"]))


GROUP = {"endpoint": "/v1/responses", "model": "m1"}


@pytest.mark.parametrize(
    ("name", "params", "rows_max"),
    [
        ("list_groups", {"now": None, "held_back": []}, 100),
        ("oldest_queued", {}, 100),
        ("measure_queue", GROUP | {"limit": 1000, "held_back": []}, 1000),
        ("read_queue", GROUP | {"limit": 500, "held_back": []}, 3 * 500),
        ("read_tally", {}, 100),
        (
            "list_requests",
            {"tenant": "t1", "states": ["completed", "failed"], "before_seq": None, "limit": 21},
            2 * 21,
        ),
        ("forget_requests", {"now": None, "ttl": "30 days", "limit": 2000}, 0),
    ],
)
def test_no_query_reads_more_than_it_needs(
    full: psycopg.Connection[Any], name: str, params: dict[str, Any], rows_max: int
) -> None:
    for node in explained(full, name, **params):
        if node.get("Relation Name") == "request":
            assert node["Node Type"] != "Seq Scan", node
            read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node[
                "Actual Loops"
            ]
            assert read <= rows_max, node


def test_a_part_of_a_batchs_answers_is_stored_without_reading_all_of_the_batch(
    full: psycopg.Connection[Any],
) -> None:
    with full.transaction(force_rollback=True):
        batch_id = uuid.uuid4()
        rows = full.execute(
            "update request set state = 'in_progress', batch_id = %s where state = 'queued'"
            " returning id",
            [batch_id],
        ).fetchall()
        n = 100
        answered = {
            "ids": [id_ for (id_,) in rows[::-7][:n]],
            "states": ["completed"] * n,
            "status_codes": [200] * n,
            "upstream_ids": [None] * n,
            "answers": [b"{}"] * n,
            "realtimes": [None] * n,
            "batch_id": batch_id,
            "refund": 0,
            "now": None,
        }
        plans = {
            "read_attempts": explained(
                full, "read_attempts", ids=answered["ids"], batch_id=batch_id
            ),
            "store_results": explained(full, "store_results", **answered),
        }
    for name, plan in plans.items():
        read = [
            node["Actual Rows"] * node["Actual Loops"]
            for node in plan
            if node.get("Relation Name") == "request" and "Scan" in node["Node Type"]
        ]
        assert read, plan
        assert max(read) <= n, f"{name}: {read}"
