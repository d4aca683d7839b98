"""Requests as the server's own statements would have left them, put there by one statement."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

ENDPOINT = "/v1/responses"

# In their own table and counted, so that the books balance.
_STORE = """
with way as (
  insert into route (endpoint, model) values (%(endpoint)s, %(model)s)
  on conflict (model, endpoint) do update set model = excluded.model returning id),
given as materialized (
  select nextval(pg_get_serial_sequence('request', 'seq')) as n, gen_random_uuid() as id,
         now() - %(age_s)s * interval '1 second' as at
    from generate_series(1, %(n)s)),
requests as (
  insert into request (seq, id, body_id, tenant, route_id, line_bytes, tokens, inputs, created_at)
  overriding system value
  select n, given.id, given.id, %(tenant)s, way.id, 100, 10, 1, at from given, way),
bodies as (
  insert into body (seq, body)
  select n, convert_to('{"input":"call ' || n || '","model":"' || %(model)s || '"}', 'utf8')
    from given),
waiting as (
  insert into queued (seq, tenant, route_id, queued_at, line_bytes, tokens, inputs)
  select n, %(tenant)s, way.id, at, 100, 10, 1 from given, way where %(state)s = 'queued'),
travelling as (
  insert into sent (seq, tenant, batch_id, queued_at, attempts)
  select n, %(tenant)s, %(batch_id)s, at, 1 from given where %(state)s = 'in_progress'),
ended as (
  insert into result (seq, tenant, state, batch_id, attempts, status_code, queued_at, finished_at,
                      answer)
  select n, %(tenant)s, %(state)s, %(batch_id)s, 1, %(status_code)s, at, now(), %(answer)s
    from given where %(state)s in ('completed', 'failed', 'cancelled')),
counted as (
  insert into tally values ('request', %(tenant)s, %(state)s, %(n)s))
select n, id from given order by n
"""


def store(
    conn: psycopg.Connection[Any], n: int, state: str, **given: Any
) -> list[tuple[int, uuid.UUID]]:
    """So many requests in one state; (seq, id) of each, in their order.

    `given`: tenant, endpoint, model, batch_id, age_s, status_code, answer.
    """
    params = {
        "n": n, "state": state, "tenant": "t", "endpoint": ENDPOINT, "model": "m",
        "batch_id": None, "age_s": 0, "status_code": 200, "answer": None, **given,
    }  # fmt: skip
    return conn.execute(_STORE, params).fetchall()
