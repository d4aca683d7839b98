"""The database goes away and comes back: nothing that was accepted is missing afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from conftest import Upstreamed
from support.postgres import Cluster, running_cluster
from support.process import ServerProcess, environment, server_process
from support.steps import chat
from support.world import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that nobody else uses, to be mistreated."""
    with running_cluster("embedded") as cluster:
        yield cluster


def ask(server: ServerProcess, text: str, wait: int = 0) -> httpx2.Response:
    return httpx2.post(
        f"{server.url}/v1/chat/completions",
        json=chat(text),
        headers=HEADERS | ({"Prefer": f"wait={wait}"} if wait else {}),
        timeout=60,
        verify=False,
    )


def execute(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(statement.encode()).fetchall()


def answered(server: ServerProcess, text: str) -> None:
    """The call is answered, by itself, however long the server took to recover."""
    deadline = time.monotonic() + 40
    while (reply := ask(server, text, wait=5)).status_code != 200:
        assert reply.status_code in (202, 503), reply.text
        assert time.monotonic() < deadline
    assert reply.json()["choices"][0]["message"]["content"] == f"You said: {text}"


def test_killed_connections_are_hardly_noticed(
    own_cluster: Cluster, upstream: Upstreamed, tmp_path: Path
) -> None:
    env = environment(upstream.base_url, tmp_path, POSTGRES_URL=own_cluster.url)
    with server_process(env) as server:
        accepted = [ask(server, f"n{n}").status_code for n in range(5)]
        for _ in range(3):
            execute(
                own_cluster.url,
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and backend_type = 'client backend'",
            )
            accepted.append(ask(server, "n5").status_code)
        assert set(accepted) <= {200, 202}
        for n in range(6):
            answered(server, f"n{n}")
        assert server.terminate() == 0
    assert set(upstream.simulator.ledger.counts().values()) == {1}


def test_a_database_that_crashed_is_a_503_and_everything_goes_on_afterwards(
    own_cluster: Cluster, upstream: Upstreamed, tmp_path: Path
) -> None:
    env = environment(upstream.base_url, tmp_path, POSTGRES_URL=own_cluster.url)
    with server_process(env) as server:
        assert ask(server, "before").status_code == 202
        [(folder,)] = execute(own_cluster.url, "select current_setting('data_directory')")
        postmaster = int((Path(folder) / "postmaster.pid").read_text().split("\n")[0])
        os.kill(postmaster, signal.SIGQUIT)  # as after a crash: every session is gone at once
        refused = ask(server, "during")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "database_unavailable"
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx2.get(f"{server.url}/health", verify=False).status_code == 200
        assert httpx2.get(f"{server.url}/ready", verify=False).status_code == 503
        own_cluster.restart()
        answered(server, "before")
        answered(server, "during")
        assert server.terminate() == 0
    assert set(upstream.simulator.ledger.counts().values()) == {1}


def test_a_read_only_database_is_a_503_until_it_is_writable(
    own_cluster: Cluster, upstream: Upstreamed, tmp_path: Path
) -> None:
    env = environment(upstream.base_url, tmp_path, POSTGRES_URL=own_cluster.url)
    with server_process(env) as server:
        assert ask(server, "before").status_code == 202
        own_cluster.execute("alter system set default_transaction_read_only = on")
        own_cluster.execute("select pg_reload_conf()")
        assert ask(server, "during").status_code == 503
        writable = "-c default_transaction_read_only=off"
        with psycopg.connect(own_cluster.url, autocommit=True, options=writable) as conn:
            conn.execute("alter system set default_transaction_read_only = off")
        own_cluster.execute("select pg_reload_conf()")
        answered(server, "before")
        answered(server, "during")
        assert server.terminate() == 0
