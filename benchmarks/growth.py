"""What calls cost with ten million finished requests stored, beside ten thousand.

Two databases on one PostgreSQL, a server on each, under the same load in turns. Retention is what
the worker does with old requests (store.forget), as fast as it goes.
"""

from __future__ import annotations

import asyncio
import http.client
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from benchmarks import history, load, stack
from benchmarks.door import stored_requests
from benchmarks.figure import Row, Sizes, check
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.migrations import migrate
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.endpoints import RESPONSES
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.worker import FORGET_AT_ONCE
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.requests.group_commit import Acceptor
from openaibatching.server.requests.parse import read_call
from support.postgres import Cluster

FEW = 10_000
CONNECTIONS = 8
QUEUED = 1000
ARRIVING_PER_S = 1000
TTL_DAYS = history.DAYS / 2
LOADING = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "'16GB'"}


@dataclass(frozen=True)
class Asked:
    """What is asked often. A `body` is one of so many calls as are stored; with `few`, of so many
    as the small database has: what a program asks again and again."""

    path: str
    body: str | None = None
    few: bool = False
    aim: float | None = None


CALL = "/v1/chat/completions"
KINDS = {
    "a repeated call": Asked(CALL, history.BODY, few=True, aim=1.3),
    "a repeated call, drawn from all": Asked(CALL, history.BODY),
    "a list page": Asked("/v1/requests?limit=20"),
    "/metrics": Asked("/metrics"),
    "/v1/stats": Asked("/v1/stats"),
    "the page": Asked("/"),
}


def measure(sizes: Sizes) -> list[Row]:
    few = min(FEW, sizes.rows // 2)
    with stack.cluster() as postgres, postgres.database() as small, postgres.database() as large:
        _fill(postgres, {small: few, large: sizes.rows})
        rows = _latencies(sizes, {small: few, large: sizes.rows})
        rows.append(asyncio.run(_forming(sizes, {small: few, large: sizes.rows})))
        slow, quick = (asyncio.run(_forget(url, sizes)) for url in (large, small))
    detail = f"{slow:,.0f} rows/s of {sizes.rows:,} stored; {quick:,.0f} of {few:,}"
    against = f"{ARRIVING_PER_S:,} requests/s that arrive"
    return [*rows, Row("retention, rows/s", against, slow / ARRIVING_PER_S, 1, detail=detail)]


def _fill(postgres: Cluster, wanted: dict[str, int]) -> None:
    """Nothing of it is to survive a power cut, so it is not written twice; later all is."""
    for name, value in LOADING.items():
        postgres.execute(f"alter system set {name} = {value}")
    postgres.execute("select pg_reload_conf()")
    for url, rows in wanted.items():
        asyncio.run(migrate(url, wait_s=10))
        history.fill(url, rows)
    for name in LOADING:
        postgres.execute(f"alter system reset {name}")
    postgres.execute("select pg_reload_conf()")
    postgres.execute("checkpoint")


def _latencies(sizes: Sizes, stored: dict[str, int]) -> list[Row]:
    """p99 of what is asked often, with many stored beside few."""
    found: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in KINDS}
    settings = {"RESULT_TTL_DAYS": 3650}
    urls = list(stored)
    with (
        stack.simulator() as openai,
        stack.server(openai.base_url, POSTGRES_URL=urls[0], **settings) as small,
        stack.server(openai.base_url, POSTGRES_URL=urls[1], **settings) as large,
    ):
        cookies = [_signed_in(server.url) for server in (small, large)]
        for _ in range(sizes.rounds):
            for kind, asked in KINDS.items():
                for which, server in enumerate((small, large)):
                    among = stored[urls[0 if asked.few else which]] if asked.body else 0
                    cookie = cookies[which] if asked.path == "/" else ""
                    calls = load.Calls(asked.path, asked.body, stack.KEY, among, cookie)
                    done = load.run(
                        server.url, calls, connections=CONNECTIONS, seconds=sizes.seconds
                    )
                    check(done.answered > 0, kind)
                    found[kind][which].append(done.p99_ms)
    for url, rows in stored.items():
        check(stored_requests(url) == rows, "a repeated call is no new request")
    return [_row(kind, found[kind], KINDS[kind].aim, list(stored.values())) for kind in KINDS]


def _signed_in(url: str) -> str:
    """The cookie of who has signed in with the key."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    headers = {"Origin": url, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/sign-in", f"key={stack.KEY}", headers)
    cookie = connection.getresponse().getheader("set-cookie", "")
    connection.close()
    check(cookie, "signed in")
    return cookie.partition(";")[0]


def _row(
    kind: str, p99s: tuple[list[float], list[float]], aim: float | None, rows: list[int]
) -> Row:
    few, many = (statistics.median(values) for values in p99s)
    name = f"p99 of {kind}, {rows[1]:,} stored"
    detail = f"{many:.1f} ms; {few:.1f} ms; {CONNECTIONS} connections"
    return Row(name, f"{rows[0]:,} stored", many / few, aim, False, detail)


async def _forming(sizes: Sizes, stored: dict[str, int]) -> Row:
    """How long it takes to make a batch of what is queued, with many stored beside few."""
    few, many = [
        [await _form_s(url, round_) * 1000 for round_ in range(sizes.rounds)] for url in stored
    ]
    small, large = stored.values()
    reached = statistics.median(many) / statistics.median(few)
    detail = f"{statistics.median(many):.1f} ms; {statistics.median(few):.1f} ms"
    name = f"forming a batch of {QUEUED:,}, {large:,} stored"
    return Row(name, f"{small:,} stored", reached, None, False, detail)


async def _form_s(url: str, round_: int) -> float:
    """Seconds from a full queue to a batch."""
    settings = Settings(
        openai_api_key=SecretStr(stack.KEY), postgres_url=SecretStr(url), batch_requests_max=QUEUED
    )
    bodies = (f'{{"model":"m","input":"forming {round_} {n}"}}'.encode() for n in range(QUEUED))
    database = Database(url)
    await database.open()
    await Acceptor(database).store(
        read_call(settings, history.TENANT, RESPONSES, body, None) for body in bodies
    )
    upstream = Upstream(settings)
    started = time.perf_counter()
    check(await form_one(Context(settings, database, upstream)), "a batch was formed")
    seconds = time.perf_counter() - started
    await upstream.close()
    await database.close()
    return seconds


async def _forget(url: str, sizes: Sizes) -> float:
    """Rows a second that retention deletes."""
    before, gone = stored_requests(url), 0
    async with asyncio.timeout(120):
        database = Database(url)
        await database.open()
        started = time.perf_counter()
        last = FORGET_AT_ONCE
        while last == FORGET_AT_ONCE and time.perf_counter() - started < sizes.seconds * 5:
            async with database.transaction() as conn:
                last = await store.forget(conn, TTL_DAYS, FORGET_AT_ONCE, None)
            gone += last
        seconds = time.perf_counter() - started
        await database.close()
    check(gone > 0 and stored_requests(url) == before - gone, f"{gone} of {before} are gone")
    return gone / seconds
