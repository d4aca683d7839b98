"""Durable single calls a second, beside a server on the same stack that does nothing."""

from __future__ import annotations

import statistics
from functools import partial

import psycopg

from benchmarks import load, stack
from benchmarks.figure import Row, Sizes, check, median_of_ratios

CONNECTIONS = 256
BODY = (
    '{"model": "gpt-4o", "messages": [{"role": "user", "content": "call {n} ' + "x" * 900 + '"}]}'
)  # 1 KB with the HTTP head that goes with it


def measure(sizes: Sizes) -> list[Row]:
    connections = 16 if sizes.short else CONNECTIONS
    calls = load.Calls("/v1/chat/completions", BODY, stack.KEY)
    repeated = load.Calls(calls.path, BODY, stack.KEY, among=1000)
    nothing: list[float] = []
    new: list[float] = []
    again: list[float] = []
    answered = 0
    with (
        stack.simulator() as openai,
        stack.cluster() as postgres,
        postgres.database() as url,
        stack.no_op() as no_op,
        stack.server(openai.base_url, POSTGRES_URL=url) as server,
    ):
        run = partial(load.run, connections=connections, seconds=sizes.seconds)
        for round_ in range(sizes.rounds):
            first = round_ * 10_000_000
            nothing.append(run(no_op, calls, first=first).per_s)
            done = run(server.url, calls, first=first)
            new.append(done.per_s)
            answered += done.answered
            again.append(run(server.url, repeated).per_s)
        stored = stored_requests(url)
    # wrk leaves when time is up: the last calls of its connections are stored, but not answered.
    spare = (2 * connections + 1000) * sizes.rounds + 1000
    check(answered <= stored <= answered + spare, f"{answered} answered, {stored} stored")
    base = statistics.median(nothing)

    def row(name: str, rates: list[float], aim: float | None) -> Row:
        detail = f"{statistics.median(rates):,.0f}/s; no-op {base:,.0f}/s"
        against = "a no-op server on the same stack"
        return Row(name, against, median_of_ratios(rates, nothing), aim, detail=detail)

    return [
        row(f"durable single calls/s, 1 KB, {connections} connections", new, 0.6),
        row("the same, of calls that were made before", again, None),
    ]


def stored_requests(url: str) -> int:
    """How many requests the database has."""
    with psycopg.connect(url) as conn:
        row = conn.execute("select count(*) from openaibatching.request").fetchone()
    assert row is not None
    return int(row[0])
