"""Three servers on one database: one is killed, one is paused beyond its lease, one restarts."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from conftest import Upstreamed
from crash.test_kill import DEADLINE_S, World
from openaibatching.simulator import Simulator, running
from support.process import ServerProcess, environment, server_process
from support.steps import chat
from support.world import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}
TEXTS = [f"question {n}" for n in range(150)]


@pytest.fixture
def slow_upstream() -> Iterator[Upstreamed]:
    simulator = Simulator(lag=2.0)
    with running(simulator) as base_url:
        yield Upstreamed(simulator, base_url)


def ask(servers: list[ServerProcess], texts: list[str]) -> list[httpx2.Response]:
    """Every call, spread over the servers."""
    with httpx2.Client(headers=HEADERS, timeout=30, verify=False) as client:

        def one(pair: tuple[str, ServerProcess]) -> httpx2.Response:
            return client.post(f"{pair[1].url}/v1/chat/completions", json=chat(pair[0]))

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, zip(texts, itertools.cycle(servers))))


@pytest.mark.parametrize("cluster", ["embedded"], indirect=True)
def test_no_batch_is_made_twice_and_none_is_left_behind(
    database_url: str, slow_upstream: Upstreamed, tmp_path: Path
) -> None:
    simulator = slow_upstream.simulator
    env = environment(slow_upstream.base_url, tmp_path, POSTGRES_URL=database_url)
    world = World(database_url, slow_upstream, env)
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(server_process(env)) for _ in range(3))
        gate = simulator.gate("POST /batches", when="after")
        assert {r.status_code for r in ask([one, two, three], TEXTS[:50])} == {202}
        gate.wait_reached(DEADLINE_S)
        # Whoever has a create in the air is paused with it, and its lease runs out.
        creator = world.ask_database(
            "select a.application_name from batch b"
            " join pg_locks l on l.locktype = 'advisory' and l.classid = 9487"
            "  and l.objid = b.lease_by::oid"
            " join pg_stat_activity a on a.pid = l.pid where b.state = 'creating'"
        )
        with_create = next(s for s in (one, two, three) if creator == f"openaibatching pid {s.pid}")
        with_create.signal(signal.SIGSTOP)
        others = [server for server in (one, two, three) if server is not with_create]
        gate.release()
        assert {r.status_code for r in ask(others, TEXTS[50:100])} == {202}
        others[0].kill()
        others[0] = stack.enter_context(server_process(env))
        assert {r.status_code for r in ask(others, TEXTS[100:])} == {202}
        world.until("not exists (select from request where finished_at is null)")
        with_create.signal(signal.SIGCONT)
        with_create.wait_ready()
        world.until("not exists (select from batch where state <> 'closed')")
        answers = [reply.json() for reply in ask([with_create, *others], TEXTS)]
        assert [server.terminate() for server in (with_create, *others)] == [0, 0, 0]
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [f"You said: {text}" for text in TEXTS]
    assert set(simulator.ledger.counts().values()) == {1}
    assert simulator.files() == []
