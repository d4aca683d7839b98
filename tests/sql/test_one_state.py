"""A request stands in exactly one table of states, whoever looks, whatever goes on meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

import psycopg
import pytest

from openaibatching.server.database.pool import SESSION
from openaibatching.server.database.statements import QUERIES
from openaibatching.server.domain.states import REQUEST_STATES
from support import stored
from support.books import IN_ONE_STATE

REQUESTS, ROUNDS = 120, 8
TENANTS = ("default", "second")
STATES = set(REQUEST_STATES)
Session = psycopg.Connection[Any]


@contextmanager
def session(url: str) -> Iterator[Session]:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(SESSION)
        yield conn


def run(conn: Session, name: str, params: dict[str, Any]) -> list[Any]:
    return conn.execute(QUERIES[name], params, prepare=True, binary=True).fetchall()


def claim(conn: Session, batch_id: uuid.UUID) -> None:
    rows = conn.execute("select tenant, seq from queued").fetchall()
    tenants, seqs = [tenant for tenant, _ in rows], [seq for _, seq in rows]
    run(conn, "claim_requests", {"batch_id": batch_id, "tenants": tenants, "seqs": seqs})


def store(conn: Session, batch_id: uuid.UUID, ids: list[uuid.UUID], state: str) -> int:
    n = len(ids)
    given = {
        "batch_id": batch_id, "ids": ids, "states": [state] * n, "status_codes": [200] * n,
        "upstream_ids": [None] * n, "answers": [b"{}"] * n, "realtimes": [None] * n,
        "paids": [None] * n, "incompletes": [None] * n, "refunds": [0] * n,
        "waits": [timedelta(0)] * n, "now": None,
    }  # fmt: skip
    return sum(row[1] for row in run(conn, "store_results", given))


def go_round(conn: Session, ids: list[uuid.UUID]) -> None:
    """All are claimed; of each three one goes again, one fails and one is cancelled in the end."""
    again, failed, cancelled = ids[::3], ids[1::3], ids[2::3]
    first, second = uuid.uuid4(), uuid.uuid4()
    claim(conn, first)
    assert store(conn, first, again, "queued") == len(again)
    assert store(conn, first, failed, "failed") == len(failed)
    assert store(conn, first, cancelled, "cancelled") == len(cancelled)
    claim(conn, second)
    assert store(conn, second, again, "completed") == len(again)
    assert store(conn, second, ids, "completed") == 0, "a second result changes nothing"
    free = {"incomplete": True, "estimate": None, "usd_most": None}
    for id_ in ids:
        for tenant in TENANTS:  # it is one of theirs
            run(conn, "retry_request", {"id": id_, "tenant": tenant} | free)
    for id_ in cancelled:
        for tenant in TENANTS:
            run(conn, "cancel_request", {"id": id_, "tenant": tenant})
            run(conn, "retry_request", {"id": id_, "tenant": tenant} | free)


def accept_again(conn: Session, ids: list[uuid.UUID]) -> list[str]:
    """The states in which an acceptance of the same calls finds them."""
    n = len(ids)
    given = {
        "ids": ids, "body_ids": ids, "tenants": ["default"] * n, "models": ["m"] * n,
        "endpoints": [stored.ENDPOINT] * n, "bodies": [b"{}"] * n, "line_bytes": [1] * n,
        "tokens": [1] * n, "inputs": [1] * n, "estimates": [None] * n, "usd_mosts": [None] * n,
        "traceparents": [None] * n, "answer_bytes_max": 9,
    }  # fmt: skip
    return [row[6] for row in run(conn, "accept_requests", given)]


def read(conn: Session, ids: list[uuid.UUID]) -> list[str]:
    given = {"ids": ids, "tenants": list(TENANTS), "answer_bytes_max": None}
    return [row[6] for row in run(conn, "read_requests", given)]


def list_them(conn: Session, ids: list[uuid.UUID]) -> list[str]:
    page = {"before_seq": None, "limit": 2 * len(ids)}
    return [
        row[6]
        for row in run(
            conn, "list_requests",
            {"tenants": list(TENANTS), "states": list(REQUEST_STATES), **page},
        )
    ]  # fmt: skip


def test_whoever_looks_sees_each_request_once(database_url: str) -> None:
    with session(database_url) as conn:
        ids = [
            id_
            for tenant in TENANTS
            for _, id_ in stored.store(conn, REQUESTS // 2, "queued", tenant=tenant)
        ]
        over = Event()

        def look(how: Callable[[Session, list[uuid.UUID]], list[str]]) -> int:
            looks = 0
            with session(database_url) as own:
                while not over.is_set():
                    found = how(own, ids)
                    assert len(found) == len(ids)
                    assert set(found) <= STATES
                    looks += 1
            return looks

        def count() -> int:
            looks = 0
            with session(database_url) as own:
                while not over.is_set():
                    assert own.execute(IN_ONE_STATE.encode()).fetchall() == []
                    looks += 1
            return looks

        with ThreadPoolExecutor(4) as threads:
            looking = [threads.submit(look, how) for how in (accept_again, read, list_them)]
            looking.append(threads.submit(count))
            try:
                for _ in range(ROUNDS):
                    go_round(conn, ids)
            finally:
                over.set()
            assert all(one.result() > 0 for one in looking)
        assert conn.execute(IN_ONE_STATE.encode()).fetchall() == []
        counted = conn.execute(
            "select tenant, state, sum(n) from tally group by 1, 2 having sum(n) <> 0"
        ).fetchall()
        assert sorted(counted) == [(tenant, "queued", REQUESTS // 2) for tenant in TENANTS]


@pytest.mark.parametrize("table", ["queued", "sent", "result"])
def test_a_request_in_no_state_or_in_two_is_found(database_url: str, table: str) -> None:
    state = {"queued": "queued", "sent": "in_progress", "result": "completed"}[table]
    other = "completed" if table != "result" else "queued"
    with session(database_url) as conn:
        stored.store(conn, 3, state, batch_id=uuid.uuid4())
        [(seq, _)] = stored.store(conn, 1, other)
        assert conn.execute(IN_ONE_STATE.encode()).fetchall() == []
        with conn.transaction(force_rollback=True):
            conn.execute(f"delete from {table} where seq = (select min(seq) from {table})".encode())
            assert len(conn.execute(IN_ONE_STATE.encode()).fetchall()) == 1
        conn.execute(f"update {table} set seq = %s where seq = %s".encode(), [seq, seq - 1])
        assert {row[0] for row in conn.execute(IN_ONE_STATE.encode()).fetchall()} == {seq, seq - 1}
