"""A service that has seen much, or is in trouble: rows as the server itself would have left them.

What it shows at OpenAI has its next look in an hour, so the worker leaves it as it is.
"""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from openaibatching.server.auth import key_format
from support import stored

ENDPOINT = "/v1/responses"

_BATCH = """
insert into batch (id, state, endpoint, model, requests, bytes, tokens, tries, upstream_id,
                   upstream_status, input_file_id, upstream_completed, upstream_failed, created_at,
                   submitted_at, next_at, trouble, troubled_at)
values (%(id)s, %(state)s, %(endpoint)s, %(model)s, %(requests)s, 1000, 1000, %(tries)s,
        %(upstream_id)s, %(upstream_status)s, 'file-1', %(completed)s, %(failed)s,
        now() - %(age_s)s * interval '1 second',
        case when %(state)s = 'submitted' then now() - %(age_s)s * interval '1 second' end,
        now() + interval '1 hour', %(trouble)s::text,
        case when %(trouble)s::text is not null then now() - interval '25 minutes' end)
"""
_PAST = """
insert into batch (state, endpoint, model, requests, bytes, tokens, upstream_status, completed,
                   created_at, submitted_at, ended_at, closed_at)
select 'closed', %(endpoint)s, %(model)s, 3000, 1000, 1000, 'completed', 3000,
       t, t, t + took, t + took
  from generate_series(2, 21) as n,
       lateral (select now() - n * interval '5 hours' as t,
                       (90 + n %% 5 * 20) * interval '1 minute' as took) as a
"""
_SHARE = "insert into share (tenant, batch_id, requests) values (%s, %s, %s)"
_SPENDING = """
insert into spending (tenant, hour, endpoint, model, answers, input_tokens, output_tokens,
                      realtime, paid)
select %(tenant)s, date_trunc('hour', now()) - h * interval '1 hour', %(endpoint)s, m,
       n, n * 410, n * 96, n * 0.0012 * k, n * 0.0006 * k
  from generate_series(0, 24 * 29) as h,
       (values ('gpt-4o-mini', 1), ('gpt-4o', 4)) as models(m, k),
       lateral (select (40 + 30 * sin(h / 3.8) + 14 * sin(h / 29.0) + k)::int as n) as a
"""
_FAILURE = """
insert into failure (tenant, hour, endpoint, model, status_code, code, n, example)
values (%s, date_trunc('hour', now()) - %s * interval '1 hour', %s, %s, %s, %s, %s, %s)
on conflict (tenant, hour, endpoint, model, status_code, code)
do update set n = failure.n + excluded.n, example = excluded.example
"""
_TALLY = "insert into tally (what, tenant, state, n) values ('request', %s, %s, %s)"
_ERROR = (
    b'{"error":{"message":"Your input exceeds the context window of this model.",'
    b'"type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}'
)

WRONG_KEY = (
    "OpenAI answered 401 invalid_api_key (check OPENAI_API_KEY, OPENAI_ORG_ID and "
    "OPENAI_PROJECT_ID)"
)


class Filling:
    """Rows of one tenant. Nothing is announced: the server sees them when it looks."""

    def __init__(self, url: str, tenant: str) -> None:
        self._url, self._tenant = url, tenant

    def _run(self, statement: str, params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            cursor = conn.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def batch(self, **given: Any) -> str:
        """A batch that stays as it is; its id."""
        values = {
            "id": uuid.uuid4(), "state": "submitted", "endpoint": ENDPOINT, "model": "gpt-4o-mini",
            "requests": 3400, "tries": 3, "upstream_id": f"batch_{uuid.uuid4().hex}",
            "upstream_status": "in_progress", "completed": 0, "failed": 0, "age_s": 3600,
            "trouble": None, **given,
        }  # fmt: skip
        if values["state"] != "submitted":
            values |= {"upstream_id": None, "upstream_status": None}
        self._run(_BATCH, values)
        self.joins(str(values["id"]), values["requests"])
        return str(values["id"])

    def joins(self, batch_id: str, requests: int) -> None:
        """So many of the batch's requests are this tenant's."""
        self._run(_SHARE, [self._tenant, batch_id, requests])

    def requests(self, n: int, state: str, **given: Any) -> list[uuid.UUID]:
        """So many requests in one state; their ids."""
        values = {
            "tenant": self._tenant, "endpoint": ENDPOINT, "model": "gpt-4o-mini", "age_s": 40,
            **given,
        }  # fmt: skip
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            return [id_ for _, id_ in stored.store(conn, n, state, **values)]

    def failed(self, n: int) -> str:
        """Failed requests of which some are there; the public id of the example."""
        example = self.requests(3, "failed", status_code=400, answer=_ERROR)[0]
        reasons = (("gpt-4o-mini", 400, "context_length_exceeded", n),
                   ("gpt-4o", 504, "batch_expired", n // 3 + 1))  # fmt: skip
        for model, status, code, times in reasons:
            self._run(_FAILURE, [self._tenant, 1, ENDPOINT, model, status, code, times, example])
        return f"batchreq_{example.hex}"

    def busy(self) -> None:
        """A month of answers, two batches at OpenAI, a queue, and a few failures."""
        self._run(_SPENDING, {"tenant": self._tenant, "endpoint": ENDPOINT})
        self._run(_TALLY, [self._tenant, "completed", 61_240])
        for model in ("gpt-4o-mini", "gpt-4o"):  # so that there is a forecast
            self._run(_PAST, {"endpoint": ENDPOINT, "model": model})
        self.requests(1204, "queued")
        self.requests(17, "queued", model="gpt-4o", age_s=12)
        first = self.batch(completed=1210, failed=3)
        self.requests(340, "in_progress", batch_id=first, age_s=3700)
        self.batch(model="gpt-4o", requests=1900, completed=1702, age_s=5400)
        self.failed(41)
        self._run(_TALLY, [self._tenant, "failed", 52])

    def key(self) -> str:
        """A key of the tenant's in the database."""
        key = key_format.new_key()
        digest, hint = key_format.digest(key), key_format.hint(key)
        self._run("insert into api_key (tenant, name, hint, digest) values (%s, 'page', %s, %s)",
                  [self._tenant, hint, digest])  # fmt: skip
        return key

    def revoke(self, key: str) -> None:
        """From now on it is none."""
        statement = "update api_key set revoked_at = now() where digest = %s"
        self._run(statement, [key_format.digest(key)])

    def unsent(self) -> str:
        """A batch that OpenAI does not let in, for half an hour; its id."""
        return self.batch(model="o3-mini", requests=412, state="claimed", tries=7, age_s=1900,
                          trouble=WRONG_KEY)  # fmt: skip

    def trouble(self) -> str:
        """One of each that does not go well; the id of the batch that is stuck."""
        stuck = self.batch(model="gpt-4.1", requests=900, completed=860, age_s=26 * 3600)
        self.unsent()
        self.requests(30, "queued", model="gpt-4.1-mini", age_s=900)
        self._run(
            "insert into model_limit (model, held_until, held_for)"
            " values (%s, now() + interval '20 minutes', 'insufficient_quota')"
            " on conflict (model) do update set held_until = excluded.held_until",
            ["gpt-4.1-mini"],
        )
        return stuck
