"""Statements that change many rows at once never wait for each other in a circle."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from typing import Any

import psycopg
import pytest

from openaibatching.server.database.pool import SESSION
from openaibatching.server.database.statements import QUERIES
from support import stored

ROWS = 30
BATCH = uuid.UUID(int=1)
TENANTS = [f"t{n:02}" for n in range(ROWS)]
Row = tuple[int, uuid.UUID]


@dataclass(frozen=True)
class Statement:
    """One of ours: what it is given for these rows, in the order in which they stand."""

    name: str
    given: Callable[[Sequence[Row]], dict[str, Any]]


def results(state: str) -> Callable[[Sequence[Row]], dict[str, Any]]:
    def given(rows: Sequence[Row]) -> dict[str, Any]:
        n = len(rows)
        return {
            "ids": [id_ for _, id_ in rows],
            "states": [state] * n,
            "status_codes": [200] * n,
            "upstream_ids": [None] * n,
            "answers": [b"{}"] * n,
            "realtimes": [None] * n,
            "paids": [None] * n,
            "incompletes": [None] * n,
            "refunds": [0] * n,
            "waits": [timedelta(0)] * n,
            "batch_id": BATCH,
            "now": None,
        }

    return given


def seqs(rows: Sequence[Row]) -> dict[str, Any]:
    given = {"seqs": [seq for seq, _ in rows], "tenants": ["t"] * len(rows)}
    return given | {"batch_id": BATCH, "to_batch_id": uuid.UUID(int=2)}


def whole_queue(_rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "tenant": "t",
        "after_seq": 0,
        "last_seq": 10**9,
        "model": None,
        "endpoint": None,
        "created_before": None,
        "limit": ROWS,
    }


def old(_rows: Sequence[Row]) -> dict[str, Any]:
    return {"now": datetime(2100, 1, 1, tzinfo=UTC), "ttl": "1 day", "limit": ROWS}


QUEUED = [Statement("claim_requests", seqs), Statement("cancel_queued", whole_queue)]
IN_PROGRESS = [
    Statement("store_results", results("completed")),
    Statement("store_results", results("queued")),
    Statement("move_requests", seqs),
]
FINISHED = [Statement("forget_requests", old)]


@pytest.fixture
def sessions(database_url: str) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    opened: list[psycopg.Connection[Any]] = []

    def open_one() -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(database_url, autocommit=True))
        opened[-1].execute(SESSION)
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.close()


def fill(conn: psycopg.Connection[Any], state: str) -> list[Row]:
    return stored.store(conn, ROWS, state, batch_id=BATCH if state == "in_progress" else None)


def meet(
    sessions: Callable[[], psycopg.Connection[Any]],
    hold: tuple[str, list[Any]],
    first: tuple[str, dict[str, Any]],
    second: tuple[str, dict[str, Any]],
) -> None:
    """Let both statements go as far as they can while a third session holds a row in the middle:
    whoever locks in an order of its own has by then what the other one needs. Then let them go on.
    """
    holder, *both = sessions(), sessions(), sessions()
    watcher = sessions()

    def run(conn: psycopg.Connection[Any], name: str, params: dict[str, Any]) -> None:
        conn.execute(QUERIES[name], params, prepare=True, binary=True)

    with ThreadPoolExecutor(2) as threads:
        with holder.transaction():
            holder.execute(hold[0].encode(), hold[1])
            running = []
            for conn, statement in zip(both, (first, second), strict=True):
                running.append(threads.submit(run, conn, *statement))
                while not (running[-1].done() or waits(watcher, conn)):
                    pass
        for one in running:
            one.result()  # raises DeadlockDetected


def waits(watcher: psycopg.Connection[Any], conn: psycopg.Connection[Any]) -> bool:
    found = watcher.execute("select cardinality(pg_blocking_pids(%s)) > 0", [conn.info.backend_pid])
    return bool(found.fetchone()[0])  # type: ignore[index]


PAIRS = [
    pytest.param(state, *pair, id=f"{pair[0].name}-{pair[1].name}-{n}")
    for state, statements in (
        ("queued", QUEUED),
        ("in_progress", IN_PROGRESS),
        ("completed", FINISHED),
    )
    for n, pair in enumerate(combinations_with_replacement(statements, 2))
]


@pytest.mark.parametrize(("state", "one", "other"), PAIRS)
def test_no_two_of_them_wait_for_each_other_over_the_same_requests(
    sessions: Callable[[], psycopg.Connection[Any]], state: str, one: Statement, other: Statement
) -> None:
    rows = fill(sessions(), state)
    table = {"queued": "queued", "in_progress": "sent", "completed": "result"}[state]
    hold = (f"select from {table} where seq = %s for update", [rows[ROWS // 2][0]])
    meet(sessions, hold, (one.name, one.given(rows)), (other.name, other.given(rows[::-1])))


def test_two_servers_may_renew_the_same_leases_in_any_order(
    sessions: Callable[[], psycopg.Connection[Any]],
) -> None:
    conn = sessions()
    ids = [uuid.UUID(int=n) for n in range(ROWS)]
    conn.execute(
        "insert into batch (id, state, endpoint, model, requests, bytes, tokens, lease_by, leases)"
        " select id, 'claimed', '/v1/responses', 'm', 1, 9, 9, 7, 1 from unnest(%s::uuid[]) as id",
        [ids],
    )

    def renew(order: list[uuid.UUID]) -> tuple[str, dict[str, Any]]:
        given = {"server": 7, "ids": order, "leases": [1] * ROWS, "duration": "60 s"}
        return "renew_leases", given

    hold = ("select from batch where id = %s for update", [ids[ROWS // 2]])
    meet(sessions, hold, renew(ids), renew(ids[::-1]))


def test_two_servers_may_book_the_same_tenants_answers_in_any_order(
    sessions: Callable[[], psycopg.Connection[Any]],
) -> None:
    hour = datetime(2026, 11, 1, tzinfo=UTC)

    def book(tenants: list[str]) -> tuple[str, dict[str, Any]]:
        given: dict[str, Any] = {
            "tenants": tenants,
            "status_codes": [400] * ROWS,
            "codes": [""] * ROWS,
            "ns": [1] * ROWS,
            "examples": [BATCH] * ROWS,
            "endpoint": "/v1/responses",
            "model": "m",
            "now": hour,
        }
        return "add_failures", given

    conn = sessions()
    name, given = book(TENANTS)
    conn.execute(QUERIES[name], given, binary=True)
    hold = ("select from failure where tenant = %s for update", [TENANTS[ROWS // 2]])
    meet(sessions, hold, book(TENANTS), book(TENANTS[::-1]))
