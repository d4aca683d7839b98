"""Worlds of real processes: servers are killed, paused and restarted, and so is PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from openaibatching.server.config.settings import LEASE_S
from openaibatching.server.database.migrations import migrate
from openaibatching.simulator import Simulator, running
from soak.worlds import Report, bodies, check_answers, check_books, faults
from support.postgres import Cluster, running_cluster
from support.process import ServerProcess, environment
from support.world import KEY

SERVERS = 2
REQUESTS = 150
DEADLINE_S = 300.0
PAUSE_SHARE = 0.1
"""Of the blows: a pause beyond the lease is what takes long."""
REAL_TIMES = {
    "late_s": 0.5, "polls_blackout_s": 2.0, "stuck_cancelling_s": 2.0, "late_file_ids_s": 1.0,
    "line_500": 0.02, "line_429": 0.02, "request_timeout_line": 0.02, "image_timeout_line": 0.02,
    "status_zero_line": 0.02, "empty_body_line": 0.02, "expire": 0.05,
}  # fmt: skip
"""A pause grows tenfold with each attempt: five passing failures of a request in a row are seldom,
but would take half an hour, and here an hour is one."""
HEADERS = {"Authorization": f"Bearer {KEY}"}


class Servers:
    """The servers of a world, and what befalls them."""

    def __init__(self, env: dict[str, str], cluster: Cluster, dice: random.Random) -> None:
        self._env, self._cluster, self._dice = env, cluster, dice
        self.running = [ServerProcess(env) for _ in range(SERVERS)]
        self.blows: list[Callable[[int], None]] = [
            *[self._kill] * 4, self._stop, self._restart_database, self._crash_database,
        ]  # fmt: skip
        for server in self.running:
            server.wait_ready()

    def blow(self, report: Report) -> None:
        """Something happens to one of them."""
        place = self._dice.randrange(SERVERS)
        blow = self._pause if self._dice.random() < PAUSE_SHARE else self._dice.choice(self.blows)
        blow(place)
        what = blow.__name__.strip("_").replace("_", " ")
        report.more[what] = int(str(report.more.get(what, 0))) + 1
        report.kills += blow in (self._kill, self._crash_database)

    def _kill(self, place: int) -> None:
        self.running[place].kill()
        self._start(place)

    def _stop(self, place: int) -> None:
        assert self.running[place].terminate() == 0
        self._start(place)

    def _pause(self, place: int) -> None:
        """Longer than its lease: the others take over, and it must not act when it wakes up."""
        self.running[place].signal(signal.SIGSTOP)
        time.sleep(LEASE_S + self._dice.uniform(1, 3))
        self.running[place].signal(signal.SIGCONT)

    def _restart_database(self, _: int) -> None:
        self._cluster.restart("fast")

    def _crash_database(self, _: int) -> None:
        self._cluster.restart("immediate")

    def _start(self, place: int) -> None:
        self.running[place] = ServerProcess(self._env)
        self.running[place].wait_ready()

    def close(self) -> None:
        for server in self.running:
            server.kill()


def run_world(seed: int, folder: Path) -> Report:
    """Live through one seed and check it."""
    report, dice, started = Report("processes", seed), random.Random(seed), time.monotonic()
    simulator = Simulator(
        lag=dice.uniform(0.1, 1.0),
        faults=faults(seed, **REAL_TIMES),
    )
    with running_cluster("embedded") as cluster, running(simulator) as base_url:
        asyncio.run(migrate(cluster.url, wait_s=10))
        env = environment(
            base_url, folder, POSTGRES_URL=cluster.url, BATCH_SETTLE_S=2, BATCH_ATTEMPTS_MAX=12,
            BATCH_REQUESTS_MAX=40,
        )  # fmt: skip
        servers = Servers(env, cluster, dice)
        try:
            _live(servers, cluster.url, bodies(seed, REQUESTS), dice, report)
            check_answers(_answers(servers.running[0], bodies(seed, REQUESTS)), simulator, report)
        finally:
            servers.close()
        check_books(cluster.url, simulator, report)
    report.seconds = time.monotonic() - started
    return report


def _live(
    servers: Servers, url: str, calls: list[dict[str, Any]], dice: random.Random, report: Report
) -> None:
    """Call, strike, and go on until everything has ended."""
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(_ask_until_accepted, servers, body, n) for n, body in enumerate(calls)]
        for _ in range(dice.randint(2, 5)):
            time.sleep(dice.uniform(0.1, 1.5))  # a blow falls anywhere
            servers.blow(report)
        for future in asked:
            future.result()
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(url, autocommit=True) as conn:
        while left := _open(conn):
            if time.monotonic() > deadline:
                report.wrong.append(f"still open after {DEADLINE_S} s: {left}, {_troubles(conn)}")
                return
            time.sleep(0.1)


def _ask_until_accepted(servers: Servers, body: dict[str, Any], n: int) -> None:
    """A caller that tries again elsewhere when a server dies under it."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        n += 1
        server = servers.running[n % SERVERS]
        try:
            reply = httpx2.post(
                f"{server.url}/v1/chat/completions", json=body, headers=HEADERS, timeout=DEADLINE_S,
                verify=False,
            )  # fmt: skip
        except httpx2.TransportError:
            time.sleep(0.05)
            continue
        if reply.status_code != 503:
            return
    raise AssertionError("nobody accepts the call")


def _open(conn: psycopg.Connection[Any]) -> dict[str, int]:
    rows = conn.execute(
        "select 'request ' || state, count(*) from openaibatching.shown_request"
        " where finished_at is null group by 1 union all"
        " select 'batch ' || state, count(*) from openaibatching.batch"
        " where state <> 'closed' group by 1"
    ).fetchall()
    return dict(rows)


def _troubles(conn: psycopg.Connection[Any]) -> list[Any]:
    """What is open, why it does not get on, in how many seconds it does; what holds models."""
    batches = conn.execute(
        "select state, upstream_status, requests, tries, downloads, trouble,"
        "       extract(epoch from next_at - now())::int from openaibatching.batch"
        " where state <> 'closed'"
    ).fetchall()
    requests = conn.execute(
        "select state, attempts, status_code, extract(epoch from queued_at - now())::int"
        "  from openaibatching.shown_request where finished_at is null limit 5"
    ).fetchall()
    limits = conn.execute("select * from openaibatching.model_limit").fetchall()
    return [*batches, *requests, *limits]


def _answers(
    server: ServerProcess, calls: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], str, Any]]:
    with httpx2.Client(
        base_url=server.url, headers=HEADERS, timeout=DEADLINE_S, verify=False
    ) as client:
        for body in calls:
            reply = client.post("/v1/chat/completions", json=body).json()
            yield body, reply["batching"]["status"], reply
