"""A database that goes away, in each of its ways, under callers that never stop."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager

import httpx2
import psycopg

from support.deadline import DEADLINE_S
from support.killing import HEADERS, World
from support.postgres import Cluster
from support.process import ServerProcess
from support.steps import chat

CALLERS = 4
PACE_S = 0.05
OF_THE_SERVER = "application_name like 'openaibatching pid %' and datname is not null"


class Callers:
    """Each call has a text of its own; what it was answered is kept."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.accepted: set[str] = set()
        """The ids that came with a 202 or a 200."""
        self.refused = 0
        self.wrong: list[str] = []
        """Replies that no caller should see."""

    @contextmanager
    def calling(self) -> Iterator[None]:
        """While this lasts, they call."""
        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(self._call_on) for _ in range(CALLERS)]
            try:
                yield
            finally:
                self._stop.set()
        for call in calls:
            call.result()

    def _call_on(self) -> None:
        with httpx2.Client(
            base_url=self._server.url, headers=HEADERS, timeout=DEADLINE_S, verify=False
        ) as client:
            while not self._stop.wait(PACE_S):
                text = f"call {next(self._numbers)}"
                self._note(client.post("/v1/chat/completions", json=chat(text)))
                if client.get("/health").status_code != 200:
                    self.wrong.append("/health was not 200")

    def _note(self, reply: httpx2.Response) -> None:
        with self._lock:
            if reply.status_code in (200, 202):
                self.accepted.add(reply.json()["batching"]["id"])
            elif (
                reply.status_code == 503
                and reply.json()["error"]["code"] == "database_unavailable"
                and int(reply.headers["retry-after"]) >= 1
            ):
                self.refused += 1
            else:
                self.wrong.append(f"{reply.status_code}: {reply.text}")

    def until_accepted(self, more: int = 20) -> None:
        """Until so many more calls were accepted."""
        wanted = len(self.accepted) + more
        self._until(lambda: len(self.accepted) >= wanted)

    def until_refused(self) -> None:
        """Until somebody has heard 503 who had not before."""
        wanted = self.refused + 1
        self._until(lambda: self.refused >= wanted)

    def _until(self, condition: object) -> None:
        assert callable(condition)
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (len(self.accepted), self.refused, self.wrong[:3])
            time.sleep(0.02)


# ----- the ways; each is away while its context lasts -----


@contextmanager
def restarted(cluster: Cluster) -> Iterator[None]:
    cluster.restart("fast")
    yield


@contextmanager
def backend_killed(cluster: Cluster) -> Iterator[None]:
    """PostgreSQL then ends all the others and recovers, as after any crash."""
    with psycopg.connect(cluster.url) as conn:
        query = f"select pid from pg_stat_activity where {OF_THE_SERVER} limit 1"
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    os.kill(row[0], signal.SIGKILL)
    yield


@contextmanager
def connections_killed(cluster: Cluster) -> Iterator[None]:
    for _ in range(3):
        cluster.execute(f"select pg_terminate_backend(pid) from pg_stat_activity"
                        f" where {OF_THE_SERVER}")  # fmt: skip
        time.sleep(PACE_S)  # the server connects again, and is cut again
    yield


@contextmanager
def crashed(cluster: Cluster) -> Iterator[None]:
    pid = cluster.postgres._pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    yield
    cluster.restart()


@contextmanager
def crowded(cluster: Cluster) -> Iterator[None]:
    """Others have every connection that PostgreSQL gives.

    Counted are their own: PostgreSQL lists a connection of the server's only some time after it has
    given it away, and no longer lists one that is about to become free.
    """
    cut = f"select pg_terminate_backend(pid) from pg_stat_activity where {OF_THE_SERVER}"
    with psycopg.connect(cluster.url, autocommit=True) as own, ExitStack() as others:
        row = own.execute("select current_setting('max_connections')::int - 1").fetchone()
        assert row is not None
        deadline, had = time.monotonic() + DEADLINE_S, 0
        while had < row[0]:
            with contextlib.suppress(psycopg.OperationalError):  # there are too many
                others.enter_context(psycopg.connect(cluster.url))
                had += 1
                continue
            assert time.monotonic() < deadline, f"{had} of {row[0]}"
            own.execute(cut.encode())
        yield


@contextmanager
def read_only(cluster: Cluster) -> Iterator[None]:
    setting = "alter system set default_transaction_read_only"
    cluster.execute(f"{setting} = on")
    cluster.execute("select pg_reload_conf()")
    yield
    writable = "-c default_transaction_read_only=off"
    with psycopg.connect(cluster.url, autocommit=True, options=writable) as conn:
        conn.execute(f"{setting} = off".encode())
        conn.execute("select pg_reload_conf()")


@contextmanager
def disk_full(url: str) -> Iterator[None]:
    """Every write is refused as PostgreSQL does it then (53100, disk_full)."""
    tables = ("request", "body", "queued", "sent", "result", "batch", "event")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        conn.execute(
            "create function disk_full() returns trigger language plpgsql as $$ begin"
            " raise exception 'could not extend file' using errcode = 'disk_full'; end $$"
        )
        for table in tables:
            trigger = f"create trigger disk_full before insert or update or delete on {table}"
            conn.execute(f"{trigger} execute function disk_full()".encode())
        yield
        conn.execute("drop function disk_full() cascade")


SHORT = {
    "restarted": restarted,
    "a backend killed": backend_killed,
    "its connections killed": connections_killed,
}
LONG = {
    "crashed": crashed,
    "crowded with other clients": crowded,
    "read-only": read_only,
}


def lives_through(
    world: World, away: AbstractContextManager[None], *, is_long: bool, ready: int = 503
) -> list[str]:
    """A server under callers, and a held reply, while its database is away; whatever is wrong.

    A long time is one in which callers hear 503, and `ready` is what /ready then says.
    """
    server, said = world.start(), ready
    callers = Callers(server)
    gate = world.simulator.gate("POST /batches", when="after")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(world.ask_and_wait, server, "waited for")
        gate.wait_reached(DEADLINE_S)
        with callers.calling():
            callers.until_accepted()
            with away:
                if is_long:
                    callers.until_refused()
                    said = httpx2.get(
                        f"{server.url}/ready", timeout=DEADLINE_S, verify=False
                    ).status_code
            gate.release()
            callers.until_accepted()
        reply = waiting.result()
    world.until_all_ended()
    found = callers.wrong + world.wrong()
    if reply.status_code != 200:
        found.append(f"the call that was waited for: {reply.status_code} {reply.text}")
    stored = set(world.read("array_agg('batchreq_' || replace(id::text, '-', '')) from request"))
    if missing := callers.accepted - stored:
        found.append(f"answered with 202 and missing: {missing}")
    if is_long and said != ready:
        found.append(f"/ready was {said}")
    if server.terminate() != 0:
        found.append("the server did not end well")
    return found
