"""What a request costs the database: processor time of the session's backend, and log (WAL).

The server's own statements, one after the other, at one session: accepted by 256, claimed and
answered by parts of a batch, forgotten as the worker forgets. Full-page images are in it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import stack
from benchmarks.figure import Row, Sizes
from openaibatching.server.database.pool import SESSION
from openaibatching.server.database.statements import QUERIES, SCHEMA_FILES, sql_text

TENANTS, MODELS = ("t0", "t1", "t2", "t3"), ("m0", "m1")
ENDPOINT = "/v1/responses"
BODY_BYTES = 1000
ACCEPTED_AT_ONCE, CLAIMED_AT_ONCE, ANSWERED_AT_ONCE, FORGOTTEN_AT_ONCE = 256, 2000, 1000, 2000
BATCH_REQUESTS = 50_000
WORDS = [f"{n:x}word{n * 7919 % 997}" for n in range(500)]
STEPS = {"accept": 45.0, "claim": 20.0, "result": 40.0, "retention": 6.7}
"""The aim of each in microseconds: 105 in all, and 150,000 rows a second."""


@dataclass
class Spent:
    """What a step took, of so many requests."""

    requests: int = 0
    cpu_ns: int = 0
    wal_bytes: int = 0
    seconds: float = 0.0


class Session:
    """One session, and what its backend spends."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self._stat = Path(f"/proc/{conn.info.backend_pid}/schedstat")

    def run(self, name: str, params: dict[str, Any]) -> list[Any]:
        """The rows that one of our statements gives."""
        return self.conn.execute(QUERIES[name], params, prepare=True, binary=True).fetchall()

    @contextmanager
    def counted(self, spent: Spent, requests: int) -> Iterator[None]:
        """Add what is spent in the meantime."""
        cpu, wal, began = self._cpu(), self._wal(), time.monotonic()
        yield
        spent.seconds += time.monotonic() - began
        spent.cpu_ns += self._cpu() - cpu
        spent.wal_bytes += self._wal() - wal
        spent.requests += requests

    def _cpu(self) -> int:
        return int(self._stat.read_text().split()[0])

    def _wal(self) -> int:
        row = self.conn.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        assert row is not None
        return int(row[0])


def measure(sizes: Sizes) -> list[Row]:
    """A line for each step, and one for all of them."""
    n = 2_000 if sizes.short else 200_000
    spent = {step: Spent() for step in STEPS}
    with (
        stack.cluster() as cluster,
        cluster.database() as url,
        psycopg.connect(url, autocommit=True) as conn,
    ):
        for file in SCHEMA_FILES:
            conn.execute(sql_text(file).encode())
        conn.execute(SESSION)
        session = Session(conn)
        _live(session, n // 20, {step: Spent() for step in STEPS})  # so that plans are made
        conn.execute("vacuum (analyze)")
        _live(session, n, spent)
    rows = [
        Row(f"database, {step}", "a request", s.cpu_ns / 1e3 / s.requests, STEPS[step], False,
            f"µs; {s.wal_bytes / s.requests:,.0f} B of log, {s.requests / s.seconds:,.0f} a second")
        for step, s in spent.items()
    ]  # fmt: skip
    life = [spent[step] for step in ("accept", "claim", "result")]
    cpu = sum(s.cpu_ns / 1e3 / s.requests for s in life)
    wal = sum(s.wal_bytes / s.requests for s in life)
    detail = f"µs; {wal:,.0f} B of log, of which {2 * BODY_BYTES:,} are body and answer"
    return [*rows, Row("database, accept to result", "a request", cpu, 105.0, False, detail)]


def _live(session: Session, n: int, spent: dict[str, Spent]) -> None:
    """So many requests come, are sent, are answered and are forgotten."""
    for first in range(0, n, ACCEPTED_AT_ONCE):
        calls = _calls(min(ACCEPTED_AT_ONCE, n - first))
        with session.counted(spent["accept"], len(calls["ids"])):
            session.run("accept_requests", calls)
    session.conn.execute("checkpoint")
    batches = []
    for model in MODELS:
        while batch := _claim(session, model, spent["claim"]):
            batches.append(batch)
    session.conn.execute("checkpoint")
    for batch_id, ids in batches:
        random.shuffle(ids)
        for first in range(0, len(ids), ANSWERED_AT_ONCE):
            results = _results(batch_id, ids[first : first + ANSWERED_AT_ONCE])
            with session.counted(spent["result"], len(results["ids"])):
                session.run("store_results", results)
    session.conn.execute("vacuum (analyze)")
    session.conn.execute("checkpoint")
    old = {"now": None, "ttl": timedelta(days=-1), "limit": FORGOTTEN_AT_ONCE}
    for _ in range(-(-n // FORGOTTEN_AT_ONCE)):
        with session.counted(spent["retention"], FORGOTTEN_AT_ONCE):
            session.conn.execute(QUERIES["forget_requests"], old, prepare=True, binary=True)


def _text() -> bytes:
    return " ".join(random.choices(WORDS, k=BODY_BYTES // 5)).encode()[:BODY_BYTES]


def _calls(n: int) -> dict[str, Any]:
    ids = [uuid.uuid4() for _ in range(n)]
    nothing: list[None] = [None] * n
    return {
        "ids": ids, "body_ids": ids, "tenants": random.choices(TENANTS, k=n),
        "endpoints": [ENDPOINT] * n, "models": random.choices(MODELS, k=n),
        "line_bytes": [BODY_BYTES + 100] * n, "tokens": [250] * n, "inputs": [1] * n,
        "bodies": [_text() for _ in range(n)], "estimates": nothing, "usd_mosts": nothing,
        "traceparents": nothing, "answer_bytes_max": 65_536,
    }  # fmt: skip


def _claim(session: Session, model: str, spent: Spent) -> tuple[uuid.UUID, list[uuid.UUID]] | None:
    batch_id = uuid.uuid4()
    group = {"endpoint": ENDPOINT, "model": model, "tenants": list(TENANTS), "now": None}
    with session.counted(spent, 0):
        queue = session.run("read_queue", group | {"limit": BATCH_REQUESTS})
        for first in range(0, len(queue), CLAIMED_AT_ONCE):
            part = queue[first : first + CLAIMED_AT_ONCE]
            given = {"tenants": [row[4] for row in part], "seqs": [row[0] for row in part]}
            session.run("claim_requests", {"batch_id": batch_id} | given)
    spent.requests += len(queue)
    rows = session.run("read_unanswered", {"batch_id": batch_id})
    return (batch_id, [row[1] for row in rows]) if queue else None


def _results(batch_id: uuid.UUID, ids: list[uuid.UUID]) -> dict[str, Any]:
    n = len(ids)
    return {
        "batch_id": batch_id, "ids": ids, "states": ["completed"] * n, "status_codes": [200] * n,
        "upstream_ids": [f"resp_{id_.hex}" for id_ in ids], "answers": [_text() for _ in ids],
        "realtimes": [Decimal("0.0000105")] * n, "paids": [Decimal("0.00000525")] * n,
        "incompletes": [False] * n, "refunds": [0] * n, "waits": [timedelta(0)] * n, "now": None,
    }  # fmt: skip
