"""A batch of 50,000: no statement's cost is the square of its rows, whatever was planned before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from openaibatching.server.database.statements import QUERIES
from support import stored
from support.postgres import Cluster

TEMPLATE = "openaibatching_template"
ROWS = 50_000
BATCH = uuid.UUID(int=1)


@pytest.fixture
def queue(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A session with a full batch queued. What is compared row by row would take minutes in it."""
    with cluster.database(TEMPLATE) as url, psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        stored.store(conn, ROWS, "queued")
        conn.execute("set statement_timeout = '60s'")
        # What a session plans once it knows a statement: for any number of rows.
        conn.execute("set plan_cache_mode = force_generic_plan")
        yield conn


def claim(conn: psycopg.Connection[Any], seqs: list[int]) -> int:
    given = {"batch_id": BATCH, "seqs": seqs, "tenants": ["t"] * len(seqs)}
    rows = conn.execute(QUERIES["claim_requests"], given, prepare=True, binary=True).fetchall()
    return sum(requests for _tenant, requests, *_ in rows)


def test_a_full_batch_is_claimed_by_a_session_that_has_claimed_one_request_before(
    queue: psycopg.Connection[Any],
) -> None:
    seqs = [row[0] for row in queue.execute("select seq from request")]
    assert claim(queue, seqs[:1]) == 1
    assert claim(queue, seqs) == ROWS - 1
    moved = queue.execute("select count(*) from sent").fetchone()
    assert moved == (ROWS,)


def test_a_full_batch_of_answers_is_stored_by_one_statement(
    queue: psycopg.Connection[Any],
) -> None:
    found = queue.execute("select seq, id from request").fetchall()
    claim(queue, [seq for seq, _ in found])
    ids = [id_ for _, id_ in found]
    given = {
        "ids": ids,
        "states": ["completed"] * ROWS,
        "status_codes": [200] * ROWS,
        "upstream_ids": [None] * ROWS,
        "answers": [id_.bytes for id_ in ids],
        "realtimes": [Decimal("0.00001")] * ROWS,
        "paids": [Decimal("0.000005")] * ROWS,
        "incompletes": [False] * ROWS,
        "refunds": [0] * ROWS,
        "waits": [timedelta(0)] * ROWS,
        "batch_id": BATCH,
        "now": None,
    }
    stored = queue.execute(QUERIES["store_results"], given, prepare=True, binary=True).fetchall()
    assert stored == [("completed", ROWS)]
    right = queue.execute(
        "select count(*) from request join result using (seq) where answer = uuid_send(id)"
    ).fetchone()
    assert right == (ROWS,)
