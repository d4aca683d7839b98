"""SIGKILL at every point of a request's way: after a restart, hands off, all is as it should be.

The simulator's gates hold a call at a chosen moment, and a lock in the database holds a
statement, so each kill falls exactly where its name says.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest

from conftest import Upstreamed
from openaibatching.simulator import Simulator
from support.postgres import KINDS, system_binaries
from support.process import ServerProcess, environment, server_process
from support.steps import chat
from support.world import KEY

QUESTIONS = [f"question {n}" for n in range(20)]
HEADERS = {"Authorization": f"Bearer {KEY}"}
DEADLINE_S = 40.0


class World:
    """A server to be killed, its database and its upstream."""

    def __init__(self, url: str, upstream: Upstreamed, env: dict[str, str]) -> None:
        self.url, self.env = url, env
        self.simulator: Simulator = upstream.simulator

    def ask(self, server: ServerProcess, wait: int = 0) -> list[httpx2.Response]:
        headers = HEADERS | ({"Prefer": f"wait={wait}"} if wait else {})
        with httpx2.Client(
            base_url=server.url, headers=headers, timeout=60, verify=False
        ) as client:
            return [client.post("/v1/chat/completions", json=chat(text)) for text in QUESTIONS]

    @contextmanager
    def locked(self, statement: str) -> Iterator[None]:
        """Whatever `statement` locks stays locked."""
        with psycopg.connect(self.url) as conn:
            conn.execute("set search_path = openaibatching")
            conn.execute(statement.encode())
            yield

    def ask_database(self, query: str) -> object:
        """The first value of the first row."""
        with psycopg.connect(self.url) as conn:
            conn.execute("set search_path = openaibatching")
            row = conn.execute(query.encode()).fetchone()
            assert row is not None
            return row[0]

    def until(self, condition: str) -> None:
        """Until the SQL condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            while not conn.execute(f"select {condition}".encode()).fetchone()[0]:  # type: ignore[index]
                assert time.monotonic() < deadline, f"never came true: {condition}"
                time.sleep(0.01)

    def until_blocked(self) -> None:
        """Until some statement of the server waits for a lock."""
        self.until(
            "exists (select from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock')"
        )


@pytest.fixture
def world(database_url: str, upstream: Upstreamed, tmp_path: Path) -> World:
    env = environment(upstream.base_url, tmp_path, POSTGRES_URL=database_url)
    return World(database_url, upstream, env)


def at_gate(route: str, when: str) -> Callable[[World, ServerProcess], None]:
    def kill(world: World, server: ServerProcess) -> None:
        gate = world.simulator.gate(route, when=when)  # type: ignore[arg-type]
        world.ask(server)
        gate.wait_reached(DEADLINE_S)
        server.kill()
        gate.cut()

    return kill


def while_spooling(world: World, server: ServerProcess) -> None:
    world.ask(server)
    # The lock comes before the batch: accepted rows are there, reading bodies will wait.
    with world.locked("lock table payload in access exclusive mode"):
        world.until("exists (select from batch where state = 'claimed')")
        world.until_blocked()
        server.kill()


def after_the_create_is_answered(world: World, server: ServerProcess) -> None:
    gate = world.simulator.gate("POST /batches", when="after")
    world.ask(server)
    gate.wait_reached(DEADLINE_S)
    with world.locked("select from batch for update"):
        gate.release()
        world.until_blocked()
        server.kill()


def while_storing_results(world: World, server: ServerProcess) -> None:
    gate = world.simulator.gate("GET /files/{id}/content", when="before")
    world.ask(server)
    gate.wait_reached(DEADLINE_S)
    with world.locked("select from request order by seq desc limit 1 for update"):
        gate.release()
        world.until_blocked()
        server.kill()


def between_polls(world: World, server: ServerProcess) -> None:
    gate = world.simulator.gate("GET /batches/{id}", when="before")
    world.ask(server)
    gate.wait_reached(DEADLINE_S)
    gate.release()
    server.kill()


POINTS: dict[str, Callable[[World, ServerProcess], None]] = {
    "while spooling": while_spooling,
    "while uploading": at_gate("POST /files", "before"),
    "after the upload, before it is recorded": at_gate("POST /files", "after"),
    "before the create acts": at_gate("POST /batches", "before"),
    "after the create acted, before its reply": at_gate("POST /batches", "after"),
    "after the create's reply, before it is recorded": after_the_create_is_answered,
    "between polls": between_polls,
    "while downloading": at_gate("GET /files/{id}/content", "after"),
    "while storing results": while_storing_results,
    "before upstream files are deleted": at_gate("DELETE /files/{id}", "before"),
    "after an upstream file is deleted": at_gate("DELETE /files/{id}", "after"),
}


# The points take turns between the two kinds of PostgreSQL, which tell no difference here.
@pytest.mark.parametrize(
    ("cluster", "point"),
    list(zip(itertools.cycle(KINDS if system_binaries() else KINDS[:1]), POINTS, strict=False)),
    indirect=["cluster"],
)
def test_a_killed_server_goes_on_where_it_stopped(world: World, point: str) -> None:
    with server_process(world.env) as first:
        POINTS[point](world, first)
    with server_process(world.env) as second:
        world.until("not exists (select from request where finished_at is null)")
        world.until("not exists (select from batch where state <> 'closed')")
        answers = [json.loads(reply.content) for reply in world.ask(second)]
        assert second.terminate() == 0
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [f"You said: {text}" for text in QUESTIONS]
    assert set(world.simulator.ledger.counts().values()) == {1}
    assert world.simulator.ledger.lines == len(QUESTIONS)
    assert world.simulator.files() == []
