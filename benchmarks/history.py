"""A database in which many requests have finished, filled by SQL."""

from __future__ import annotations

import psycopg

TENANT, ENDPOINT, MODEL = "default", "/v1/chat/completions", "gpt-4o-mini"
_BEFORE, _AFTER = (
    '{"messages":[{"content":"call ',
    " " + "x" * 210 + '","role":"user"}],"model":"' + MODEL + '"}',
)
BODY = _BEFORE + "{n}" + _AFTER
"""Canonical already: the call's number is in it, in ten digits."""
ANSWER = (
    '{"id":"chatcmpl-{n}","object":"chat.completion","created":1795342800,"model":"gpt-4o-mini",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"positive"},"finish_reason":'
    '"stop"}],"usage":{"prompt_tokens":60,"completion_tokens":1,"total_tokens":61}}'
)
TABLES = ("request", "body", "result")
AT_ONCE = 1_000_000
DAYS = 30

# The identity is that of call.py: half of a SHA-256 over tenant, endpoint, kind and body.
_REQUESTS = r"""
insert into request (seq, id, body_id, tenant, route_id, line_bytes, tokens, inputs, created_at)
overriding system value
select n, id, id, %(tenant)s, 1, 390, 75, 1, at - interval '1 hour'
  from generate_series(%(first)s::bigint, %(last)s::bigint) as n,
       lateral (select now() - %(days)s * interval '1 day' * (1 - n::float8 / %(rows)s) as at) as a,
       lateral (select encode(substring(sha256(convert_to(%(name)s, 'utf8')
           || '\x00'::bytea || convert_to(%(endpoint)s, 'utf8') || '\x00'::bytea || 'body'
           || '\x00'::bytea || convert_to(replace(%(body)s, '{n}', lpad(n::text, 10, '0')), 'utf8')
         ) from 1 for 16), 'hex')::uuid as id) as i
"""
_BODIES = """
insert into body (seq, body)
select n, convert_to(replace(%(body)s, '{n}', lpad(n::text, 10, '0')), 'utf8')
  from generate_series(%(first)s::bigint, %(last)s::bigint) as n
"""
_RESULTS = """
insert into result (seq, tenant, state, batch_id, attempts, status_code, upstream_id, queued_at,
                    finished_at, answer)
select n, %(tenant)s, 'completed', %(batch)s, 1, 200, 'chatcmpl-' || lpad(n::text, 10, '0'),
       at - interval '1 hour', at,
       convert_to(replace(%(answer)s, '{n}', lpad(n::text, 10, '0')), 'utf8')
  from generate_series(%(first)s::bigint, %(last)s::bigint) as n,
       lateral (select now() - %(days)s * interval '1 day' * (1 - n::float8 / %(rows)s) as at) as a
"""
# What the batches of them leave behind: one for 50,000 requests, its share, and costs by the hour.
_BATCHES = """
with made as (
  insert into batch (state, endpoint, model, requests, bytes, tokens, upstream_id, upstream_status,
                     completed, created_at, submitted_at, ended_at, closed_at)
  select 'closed', %(endpoint)s, %(model)s, 50000, 19500000, 3750000, 'batch_' || n, 'completed',
         50000, at - interval '1 hour', at - interval '1 hour', at, at
    from generate_series(1, %(batches)s::int) as n,
         lateral (select now() - %(days)s * interval '1 day' * (1 - n::float8 / %(batches)s) as at)
           as a
  returning id
)
insert into share (tenant, batch_id, requests) select %(tenant)s, id, 50000 from made
"""
_SPENDING = """
insert into spending (tenant, hour, endpoint, model, answers, input_tokens, output_tokens,
                      realtime, paid)
select %(tenant)s, date_trunc('hour', now()) - n * interval '1 hour', %(endpoint)s, %(model)s,
       %(answers)s, %(answers)s * 60, %(answers)s, %(answers)s * 0.00001, %(answers)s * 0.000005
  from generate_series(0, %(days)s * 24 - 1) as n
"""
_BATCH = "5f0c0000-0000-4000-8000-000000000000"


def fill(url: str, rows: int) -> None:
    """Store so many finished requests, as the server itself would have left them."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute("set maintenance_work_mem = '1GB'")
        conn.execute("set synchronous_commit = off")
        conn.execute("insert into route (endpoint, model) values (%s, %s)", [ENDPOINT, MODEL])
        rebuilt = _without_indexes(conn)
        for first in range(1, rows + 1, AT_ONCE):
            _portion(conn, first, min(rows, first + AT_ONCE - 1), rows)
        for statement in rebuilt:
            conn.execute(statement.encode())
        batches = _left_behind(conn, rows)
        conn.execute(
            "insert into tally (what, tenant, state, n)"
            " values ('request', %s, 'completed', %s), ('batch', '', 'closed', %s)",
            [TENANT, rows, batches],
        )
        conn.execute("select setval(pg_get_serial_sequence('request', 'seq'), %s)", [rows])
        conn.execute("vacuum (analyze) request, body, result, event, tally, batch, share, spending")
        conn.execute("checkpoint")


def _left_behind(conn: psycopg.Connection, rows: int) -> int:
    """What there is besides the requests; how many batches."""
    batches = max(1, rows // 50_000)
    given = {
        "tenant": TENANT, "endpoint": ENDPOINT, "model": MODEL, "days": DAYS, "batches": batches,
        "answers": max(1, rows // (DAYS * 24)),
    }  # fmt: skip
    conn.execute("alter table batch disable trigger user")
    with psycopg.ClientCursor(conn) as cursor:
        for statement in (_BATCHES, _SPENDING):
            cursor.execute(statement.encode(), given)
    conn.execute("alter table batch enable trigger user")
    return batches


def _portion(conn: psycopg.Connection, first: int, last: int, rows: int) -> None:
    given = {
        "first": first, "last": last, "rows": rows, "days": DAYS, "batch": _BATCH,
        "tenant": TENANT, "name": TENANT, "endpoint": ENDPOINT, "model": MODEL,
        "body": BODY, "answer": ANSWER,
    }  # fmt: skip
    with psycopg.ClientCursor(conn) as cursor:
        for statement in (_REQUESTS, _BODIES, _RESULTS):
            cursor.execute(statement.encode(), given)


def _without_indexes(conn: psycopg.Connection) -> list[str]:
    """Drop indexes and switch triggers off; the statements that bring them back."""
    back = []
    for table in TABLES:
        conn.execute(f"alter table {table} disable trigger user".encode())
        back.append(f"alter table {table} enable trigger user")
    keys = conn.execute(
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
        " where contype in ('p', 'u') and conrelid::regclass::text = any(%s)",
        [list(TABLES)],
    ).fetchall()
    for table, name, definition in keys:
        conn.execute(f"alter table {table} drop constraint {name}".encode())
        back.append(f"alter table {table} add constraint {name} {definition}")
    indexes = conn.execute(
        "select indexname, indexdef from pg_indexes where tablename = any(%s)"
        " and schemaname = 'openaibatching'",
        [list(TABLES)],
    ).fetchall()
    for name, definition in indexes:
        conn.execute(f"drop index {name}".encode())
        back.append(definition)
    return back
