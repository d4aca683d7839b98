"""The books at the end of a test: what a server left undone, here or at OpenAI."""

from __future__ import annotations

from typing import Any

import psycopg

from openaibatching.simulator import Simulator

TERMINAL = ("completed", "failed", "expired", "cancelled")

IN_ONE_STATE = (
    "select seq, array_agg(state) from ("
    " select seq, null as state from request"
    " union all select seq, 'queued' from queued union all select seq, 'sent' from sent"
    " union all select seq, 'result' from result) as t"
    " group by seq having count(*) <> 2 or count(state) <> 1"
)
"""Finds nothing at any time: each request has one row, and one in exactly one of the states."""

# Each finds nothing in a database in which all work is done.
WRONG = {
    "requests without an end": "select id, state from shown_request where finished_at is null",
    "batches without an end": "select id, state from batch where state <> 'closed'",
    "requests without a body": ("select seq from request where seq not in (select seq from body)"),
    "bodies without a request": ("select seq from body where seq not in (select seq from request)"),
    "requests that stand in no state, or in two": IN_ONE_STATE,
    "events of nothing": (
        "select * from event where request_seq not in (select seq from request)"
        " or (request_seq is null and batch_id not in (select id from batch))"
    ),
    "batches that count other than their requests": (
        "select b.id, b.completed, b.failed, count(r.*) from batch b"
        " left join result r on r.batch_id = b.id group by b.id"
        " having b.completed <> count(r.*) filter (where r.state = 'completed')"
        "     or b.failed <> count(r.*) filter (where r.state = 'failed')"
    ),
    "reserves of what has ended": (
        "select tenant, sum(usd) from reserve group by tenant having sum(usd) <> 0"
    ),
    "batches whose shares are not all of their requests": (
        "select b.id, b.requests, sum(s.requests) from batch b left join share s"
        " on s.batch_id = b.id group by b.id having b.requests is distinct from sum(s.requests)"
    ),
    # What was forgotten meanwhile stays counted: it was paid.
    "answers that are stored and not counted": (
        "select tenant, endpoint, model, sum(n) from ("
        " select tenant, endpoint, model, answers as n from spending"
        " union all select tenant, endpoint, model, -1 from shown_request where state = 'completed'"
        ") as t group by tenant, endpoint, model having sum(n) < 0"
    ),
    "counts that are not those of the rows": (
        "select what, state, sum(n) from ("
        " select what, state, n from tally"
        " union all select 'request', state, -1 from shown_request"
        " union all select 'batch', state, -1 from batch"
        " union all select 'own_batch', state, -1 from share join batch on batch.id = batch_id"
        ") as t"
        " group by what, state having sum(n) <> 0"
    ),
}


def wrong(url: str, simulator: Simulator) -> list[str]:
    """Everything that is not as it should be when all requests have ended.

    A batch that nobody collected shows by its files, which nobody deleted.
    """
    found: list[str] = []
    with psycopg.connect(url) as conn:
        conn.execute("set search_path = openaibatching")
        for what, query in WRONG.items():
            if rows := conn.execute(query.encode()).fetchall():
                found.append(f"{what}: {rows}")
        if said := untrue_receipts(conn, simulator):
            found.append(said)
    found += [f"a file is left upstream: {file['filename']}" for file in simulator.files()]
    found += [f"a batch runs on upstream: {b['id']}" for b in _running(simulator)]
    twice = {sha: n for sha, n in simulator.ledger.counts().items() if n > 1}
    if twice:
        found.append(f"paid more than once: {twice}")
    return found


def untrue_receipts(conn: psycopg.Connection[Any], simulator: Simulator) -> str | None:
    """What the receipts say that OpenAI does not, to the token; None if they agree.

    A batch whose object has no usage (it is optional) tells only by its answers what was paid: what
    it charged for answers that got lost is then in no receipt.
    """
    row = conn.execute(
        "select coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(cached_tokens), 0)::bigint,"
        " coalesce(sum(output_tokens), 0)::bigint, coalesce(sum(reasoning_tokens), 0)::bigint"
        " from openaibatching.spending"
    ).fetchone()
    usage = simulator.ledger.usage
    charged = (
        usage["input_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )
    untold = conn.execute(
        "select count(*) from openaibatching.batch where input_tokens is null and requeued > 0"
        " and upstream_status <> 'failed'"
    ).fetchone()
    assert row is not None
    if untold != (0,) and all(ours <= theirs for ours, theirs in zip(row, charged, strict=True)):
        return None
    return None if row == charged else f"receipts of {row} tokens, and OpenAI charges {charged}"


def _running(simulator: Simulator) -> list[dict[str, Any]]:
    return [batch for batch in simulator.batches() if batch["status"] not in TERMINAL]
