"""Queries that must cost the same however many rows are stored: their plans use the indexes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from openaibatching.server.database.pool import SESSION
from openaibatching.server.database.statements import QUERIES
from openaibatching.server.domain.states import REQUEST_STATES
from support.postgres import Cluster

TEMPLATE = "openaibatching_template"
STORED, QUEUED = 60_000, 20_000
FAILED = 10_000
"""The newest of those that are stored."""
BATCHES, EVENTS = 5_000, 20_000
TABLES = ("request", "body", "queued", "sent", "result", "batch", "share", "event")
TENANTS = ("t0", "t1", "t2", "of-none")
SEQ = 1
"""A request whose story is long."""


def fill(conn: psycopg.Connection[Any]) -> None:
    """Many finished and many queued requests, of several models and tenants, and many batches, most
    of them closed. Tables are not analyzed."""
    conn.execute(SESSION)
    conn.execute("set session_replication_role = replica")  # no trigger: what they write is here
    for table in TABLES:
        conn.execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
    conn.execute(
        "insert into route (endpoint, model) select '/v1/responses', 'm' || n"
        " from generate_series(0, 4) as n"
    )
    given = {"stored": STORED, "queued": QUEUED, "batches": BATCHES, "failed": FAILED}
    conn.execute(
        "insert into request (id, body_id, tenant, route_id, line_bytes, tokens, inputs)"
        " select gen_random_uuid(), gen_random_uuid(), 't' || n %% 3, 1 + n %% 5, 500, 100, 1"
        " from generate_series(1, %(stored)s + %(queued)s) as n",
        given,
    )
    conn.execute("insert into body (seq, body) select seq, '{}' from request")
    conn.execute(
        "insert into result (seq, tenant, state, batch_id, attempts, status_code, upstream_id,"
        "  queued_at, finished_at, answer)"
        " select n, 't' || n %% 3, case when n <= %(stored)s - %(failed)s then 'completed'"
        "  else 'failed' end, ('00000000-0000-0000-0000-'"
        "  || lpad(to_hex(n %% %(batches)s), 12, '0'))::uuid, 1, 200, 'resp_' || n,"
        "  now() - n * interval '1 s', now() - n * interval '1 s', '{}'"
        " from generate_series(1, %(stored)s) as n",
        given,
    )
    conn.execute(
        "insert into queued (seq, tenant, route_id, line_bytes, tokens, inputs, queued_at)"
        " select seq, tenant, route_id, line_bytes, tokens, inputs, now() - seq * interval '1 s'"
        " from request where seq > %(stored)s",
        given,
    )
    conn.execute(
        "with new as (insert into batch (id, state, endpoint, model, requests, bytes, tokens,"
        "  input_file_id, upstream_id, completed, closed_at, created_at)"
        " select ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid,"
        "  case when n %% 1000 = 0 then 'submitted' else 'closed' end, '/v1/responses',"
        "  'm' || n %% 5, 12, 999, 99, 'file-' || n, 'batch_' || n, 12,"
        "  case when n %% 1000 <> 0 then now() end, now() - n * interval '1 min'"
        " from generate_series(0, %(batches)s - 1) as n returning id)"
        " insert into share (tenant, batch_id, requests, leads) select 't' || n, id, 4, n = 0"
        "   from new cross join generate_series(0, 2) as n",
        {"batches": BATCHES},
    )
    conn.execute(
        "insert into event (request_seq, batch_id, new_state)"
        " select case when n <= 10 then %(seq)s else n end, case when n <= 10 then %(batch)s::uuid"
        "  else gen_random_uuid() end, 'queued' from generate_series(1, %(events)s) as n",
        {"seq": SEQ, "batch": uuid.UUID(int=1), "events": EVENTS},
    )
    conn.execute("set session_replication_role = origin")


@pytest.fixture(scope="module")
def full(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A database with many rows, and a session that knows how many."""
    with cluster.database(TEMPLATE) as url, psycopg.connect(url, autocommit=True) as conn:
        fill(conn)
        conn.execute("analyze")
        yield conn


def looks() -> Iterator[tuple[str, dict[str, Any]]]:
    """What may be asked of any tenant at any time, however much is stored."""
    for tenant in TENANTS:
        of = {"tenant": tenant, "tenants": [tenant]}
        for states in (*([state] for state in REQUEST_STATES), list(REQUEST_STATES)):
            for before in (None, STORED // 2):
                page = {"states": states, "before_seq": before, "limit": 21}
                yield "list_requests", of | page
        yield "list_batches", of | {"before_seq": None, "limit": 21}
        yield "list_batches", of | {"before_seq": 2000, "limit": 21}
        yield "open_batches", of | {"limit": 100}
        for n in (7, BATCHES + 1):
            yield "find_batch", of | {"id": None, "upstream_id": f"batch_{n}"}
            yield "find_batch", of | {"id": uuid.UUID(int=n), "upstream_id": ""}
        for n in (7, STORED + 1):
            yield "find_by_upstream_id", of | {"upstream_id": f"resp_{n}"}
        yield "count_requests", of
        yield "last_queued", of
        cancel = {"created_before": datetime(2000, 1, 1, tzinfo=UTC), "limit": 0, "model": "m"}
        cancel |= {"endpoint": "/v1/responses", "after_seq": 0, "last_seq": 0}
        yield "cancel_queued", of | cancel
    for n in (1, 10**9):
        yield "list_events", {"tenant": TENANTS[n % 3], "seq": n, "limit": 1000}
        yield "read_excerpts", {"tenant": TENANTS[n % 3], "seq": n, "bytes": 100}
        yield "batch_events", {"batch_id": uuid.UUID(int=n), "limit": 200}
    yield "list_requests", {"tenants": list(TENANTS), "states": list(REQUEST_STATES)} | {
        "before_seq": None, "limit": 21,
    }  # fmt: skip
    for before in (None, 2000):
        yield "list_batches", {"tenant": "", "before_seq": before, "limit": 21}
    yield "open_batches", {"tenant": "", "limit": 100}
    yield "find_batch", {"tenant": "", "id": None, "upstream_id": "batch_7"}
    yield "count_requests", {"tenants": list(TENANTS)}
    for of_one in (None, "t1"):
        yield "read_tally", {"tenant": of_one}
    yield from changes()
    yield "which_finished", {"ids": [uuid.UUID(int=1)]}
    known = {"tenants": ["t1"], "ids": [uuid.UUID(int=1)]}
    yield "read_requests", {**known, "answer_bytes_max": None}
    yield "read_finished_requests", {"ids": [uuid.UUID(int=1)]}


def changes() -> Iterator[tuple[str, dict[str, Any]]]:
    """What changes a few rows, or none. They are undone."""
    n, ids = 10, [uuid.UUID(int=10**9 + n) for n in range(10)]
    batch_id = uuid.UUID(int=7)
    result: dict[str, Any] = {
        "ids": ids,
        "states": ["completed"] * n,
        "status_codes": [200] * n,
        "upstream_ids": [None] * n,
        "answers": [b"{}"] * n,
        "realtimes": [None] * n,
        "paids": [None] * n,
        "incompletes": [None] * n,
        "refunds": [0] * n,
        "waits": [timedelta(0)] * n,
    }
    yield "store_results", result | {"batch_id": batch_id, "now": None}
    yield "read_attempts", {"ids": ids, "batch_id": batch_id}
    seqs = {"seqs": [10**9 + n for n in range(10)], "tenants": ["t1"] * n, "batch_id": batch_id}
    yield "claim_requests", seqs
    yield "move_requests", seqs | {"to_batch_id": uuid.UUID(int=8)}
    yield "renew_leases", {"server": 1, "ids": ids, "leases": [1] * n, "duration": "60 s"}
    call: dict[str, Any] = {
        "ids": ids,
        "body_ids": ids,
        "tenants": ["t1"] * n,
        "endpoints": ["/v1/responses"] * n,
        "models": ["m1"] * n,
        "bodies": [b"{}"] * n,
    }
    sizes = {name: [1] * n for name in ("line_bytes", "tokens", "inputs")}
    unknown = {name: [None] * n for name in ("estimates", "usd_mosts", "traceparents")}
    yield "accept_requests", call | sizes | unknown | {"answer_bytes_max": 9}


ROWS_OF_A_LOOK = 500
"""Most for a page of 21 out of five states, with each row's batch."""


def rows_read(conn: psycopg.Connection[Any], name: str, params: dict[str, Any]) -> int:
    """How many rows the statement reads in all tables, found or not."""
    with conn.transaction(force_rollback=True):
        before = read_so_far(conn)
        conn.execute(QUERIES[name], params, prepare=True, binary=True)
        return read_so_far(conn) - before


def read_so_far(conn: psycopg.Connection[Any]) -> int:
    found = conn.execute(
        "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint"
        " from pg_stat_xact_user_tables"
    ).fetchone()
    assert found is not None
    return int(found[0])


def too_many(conn: psycopg.Connection[Any]) -> list[tuple[str, dict[str, Any], int]]:
    read = [(name, params, rows_read(conn, name, params)) for name, params in looks()]
    return [(name, params, rows) for name, params, rows in read if rows > ROWS_OF_A_LOOK]


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_a_look_reads_as_much_whatever_is_asked_for(
    full: psycopg.Connection[Any], mode: str
) -> None:
    full.execute(f"set plan_cache_mode = {mode}".encode())
    assert too_many(full) == []
    full.execute(SESSION)


def test_what_was_planned_while_the_tables_were_empty_does_not_read_all_of_them_later(
    cluster: Cluster,
) -> None:
    with cluster.database(TEMPLATE) as url, psycopg.connect(url, autocommit=True) as early:
        early.execute(SESSION)
        early.prepared_max = None
        assert too_many(early) == []
        with psycopg.connect(url, autocommit=True) as conn:
            fill(conn)
        assert too_many(early) == []


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


GROUPS = {
    "now": None, "held_back": [], "waiting": [], "unhurried": [], "tenants": ["t1"], "used": [1.5],
    "linger": "60 s", "limit": 200,
}  # fmt: skip
GROUP = {"endpoint": "/v1/responses", "model": "m1", "tenants": ["t0", "t1", "t2"], "now": None}


@pytest.mark.parametrize(
    ("name", "params", "rows_max"),
    [
        ("list_groups", GROUPS, 100),
        ("read_queues", {"tenants": ["t1"], "groups": 9, "most": 100, "limit": 3}, 3 * 100),
        ("queued_models", {"tenant": "t1", "most": 3, "endpoints": 7}, 3 * 7),
        ("oldest_queued", {"tenant": None}, 100),
        ("oldest_queued", {"tenant": "t1"}, 100),
        ("measure_queue", GROUP | {"limit": 1000}, 1000),
        ("read_queue", GROUP | {"limit": 500}, 3 * 500),
        ("read_tally", {"tenant": None}, 100),
        (
            "list_requests",
            {"tenants": ["t1"], "states": ["completed", "failed"], "before_seq": None, "limit": 21},
            2 * 21,
        ),
        ("forget_requests", {"now": None, "ttl": "30 days", "limit": 2000}, 0),
    ],
)
def test_no_query_reads_more_than_it_needs(
    full: psycopg.Connection[Any], name: str, params: dict[str, Any], rows_max: int
) -> None:
    for node in explained(full, name, **params):
        if node.get("Relation Name") in ("request", "queued", "sent", "result"):
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
            "with gone as (delete from queued returning *), moved as ("
            "  insert into sent (seq, tenant, batch_id, queued_at, attempts)"
            "  select seq, tenant, %s, queued_at, 1 from gone returning seq)"
            " select id from request join moved using (seq)",
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
            "paids": [None] * n,
            "incompletes": [None] * n,
            "refunds": [0] * n,
            "waits": [timedelta(0)] * n,
            "batch_id": batch_id,
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
            if node.get("Relation Name") in ("request", "sent") and "Scan" in node["Node Type"]
        ]
        assert read, plan
        assert max(read) <= n, f"{name}: {read}"
