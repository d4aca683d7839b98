"""A world in which a server is killed at one exact moment: with its database, its upstream, and
what holds both still until then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg

from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.simulator import Simulator, running
from support import books
from support.deadline import DEADLINE_S
from support.postgres import Cluster
from support.process import ServerProcess, environment
from support.steps import chat
from support.world import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}
STORING = "A second result for the same request"
"""Words of the statement that stores results, among the 1,024 bytes that pg_stat_activity shows."""
CALLERS = 8
MODEL = "gpt-4o"

KINDS = ("external", "owned", "owned, killed too")
"""Whose PostgreSQL it is: somebody's that POSTGRES_URL names, or the server's own one, which
survives its server or dies with it."""


class Lock:
    """Something locked in the database, until released."""

    def __init__(self, world: World, statement: str) -> None:
        self._world = world
        self._conn = psycopg.connect(world.url)
        self._conn.execute("set search_path = openaibatching")
        self.rows = self._conn.execute(statement.encode()).rowcount

    def until_blocks(self, statement: str = "") -> None:
        """Until a server's statement with this text waits for it."""
        self._world.until(
            f"exists (select from pg_stat_activity where position($${statement}$$ in query) > 0"
            f" and {self._conn.info.backend_pid} = any(pg_blocking_pids(pid)))"
        )

    def release(self) -> None:
        with contextlib.suppress(psycopg.Error):  # its database may be dead by now
            self._conn.rollback()
        self._conn.close()


class World:
    """Servers on one database and one upstream."""

    def __init__(
        self, url: str, simulator: Simulator, env: dict[str, str], mortal: Path | None = None
    ) -> None:
        """`mortal` is the folder of a PostgreSQL that dies with its server."""
        self.url, self.simulator, self.env = url, simulator, env
        self.texts = [f"question {n}" for n in range(20)]
        self._mortal = mortal
        self._servers: list[ServerProcess] = []
        self.accepted = 0
        self.doomed = "false"  # which requests retention is to delete

    # ----- servers -----

    def launch(self, **env: str) -> ServerProcess:
        """A server that need not get ready."""
        self._servers.append(ServerProcess(self.env | env))
        return self._servers[-1]

    def start(self, **env: str) -> ServerProcess:
        """A server that is ready."""
        server = self.launch(**env)
        server.wait_ready()
        return server

    def kill(self, server: ServerProcess) -> None:
        """SIGKILL; and of its PostgreSQL too, where that dies with it."""
        server.kill()
        if self._mortal is not None:
            kill_postgres(self._mortal)

    def kill_all(self) -> None:
        for server in self._servers:
            server.kill()

    # ----- callers -----

    def ask(
        self, server: ServerProcess, texts: Sequence[str] | None = None, model: str = MODEL
    ) -> list[Any]:
        """Make every call; the replies as JSON."""
        texts = self.texts if texts is None else texts
        with self._calling(server, texts, model) as calls:
            replies = [call.result() for call in calls]
        assert {reply.status_code for reply in replies} <= {200, 202}
        self.accepted = max(self.accepted, len(replies))
        return [reply.json() for reply in replies]

    def cancel_batch(self, server: ServerProcess) -> None:
        """The caller stops the one batch that there is, and has the reply."""
        path = f"/v1/upstream_batches/{self.read('id from batch')}/cancel"
        reply = httpx2.post(server.url + path, headers=HEADERS, timeout=DEADLINE_S, verify=False)
        assert reply.status_code == 200, reply.text

    def ask_and_wait(self, server: ServerProcess, text: str) -> httpx2.Response:
        """One call, held until it has finished."""
        return httpx2.post(
            f"{server.url}/v1/chat/completions", json=chat(text),
            headers=HEADERS | {"Prefer": "wait=240"}, timeout=DEADLINE_S, verify=False,
        )  # fmt: skip

    @contextmanager
    def asking(self, server: ServerProcess) -> Iterator[list[Future[httpx2.Response]]]:
        """The calls while they are under way."""
        with self._calling(server, self.texts, MODEL) as calls:
            yield calls

    @contextmanager
    def _calling(
        self, server: ServerProcess, texts: Sequence[str], model: str
    ) -> Iterator[list[Future[httpx2.Response]]]:
        with (
            httpx2.Client(
                base_url=server.url, headers=HEADERS, timeout=DEADLINE_S, verify=False
            ) as client,
            ThreadPoolExecutor(CALLERS) as pool,
        ):
            path = "/v1/chat/completions"
            yield [pool.submit(client.post, path, json=chat(text, model)) for text in texts]

    # ----- the database -----

    def read(self, expression: str) -> Any:
        """The value of an SQL expression."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            row = conn.execute(f"select {expression}".encode()).fetchone()
            assert row is not None
            return row[0]

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            conn.execute(statement.encode())

    def until(self, condition: str) -> None:
        """Until the SQL condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.read(condition):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            time.sleep(0.01)

    @contextmanager
    def locked(self, statement: str) -> Iterator[Lock]:
        """Whatever `statement` locks stays locked."""
        lock = Lock(self, statement)
        try:
            yield lock
        finally:
            lock.release()

    def ask_together(self, server: ServerProcess) -> None:
        """Every call is accepted, and all of them travel in one batch."""
        with self.queued(server):
            pass

    @contextmanager
    def queued(self, server: ServerProcess) -> Iterator[Lock]:
        """Every call is accepted, and none put into a batch before the lock is released."""
        with self.locked("lock table model_limit in access exclusive mode") as lock:
            self.ask(server)
            lock.until_blocks()
            yield lock

    @contextmanager
    def commits_held(self) -> Iterator[None]:
        """Commits reach the disk and nobody is told: each waits for a standby that is not there."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("alter system set synchronous_standby_names = 'nobody'")
            conn.execute("select pg_reload_conf()")
            with closing(psycopg.connect(self.url, autocommit=True)) as probe:
                self._until_held(conn, probe)
                # In the file only: a database that is killed now does not wait when it is back.
                conn.execute("alter system reset synchronous_standby_names")
                try:
                    yield
                finally:
                    with contextlib.suppress(psycopg.OperationalError):  # it may be dead
                        conn.execute("select pg_reload_conf()")

    def _until_held(self, conn: psycopg.Connection, probe: psycopg.Connection) -> None:
        waits = "select from pg_stat_activity where pid = %s and wait_event = 'SyncRep'"
        deadline = time.monotonic() + DEADLINE_S
        busy = False
        while not conn.execute(waits, [probe.info.backend_pid]).fetchall():
            assert time.monotonic() < deadline
            if not busy:
                probe.pgconn.send_query(b"select pg_logical_emit_message(true, 'probe', '')")
            probe.pgconn.consume_input()
            busy = bool(probe.pgconn.is_busy())
            while not busy and probe.pgconn.get_result() is not None:
                busy = bool(probe.pgconn.is_busy())

    def until_commit_waits(self) -> None:
        """Until a server's commit is on disk and not answered."""
        self.until(
            "exists (select from pg_stat_activity where wait_event = 'SyncRep'"
            " and application_name like 'openaibatching pid %'"
            " and datname = current_database())"
        )

    @contextmanager
    def database_alone(self) -> Iterator[None]:
        """The database runs, though no server does yet."""
        if "POSTGRES_URL" in self.env:
            yield
            return
        postgres = EmbeddedPostgres(Path(self.env["DATA_DIR"]))
        postgres.start()
        try:
            yield
        finally:
            postgres.stop()

    # ----- upstream -----

    def content(self, file_id: str) -> bytes:
        """A file as OpenAI has it."""
        url = f"{self.env['OPENAI_BASE_URL']}/files/{file_id}/content"
        return httpx2.get(url, headers=HEADERS, verify=False).content

    # ----- the end -----

    def until_all_ended(self) -> None:
        """Until every request and every batch has ended, hands off."""
        self.until(f"not exists (select from shown_request where {self.doomed})")
        self.until("not exists (select from shown_request where finished_at is null)")
        self.until("not exists (select from batch where state <> 'closed')")

    def wrong(self) -> list[str]:
        """Whatever is not as it should be."""
        found = books.wrong(self.url, self.simulator)
        if spooled := list(Path(self.env["DATA_DIR"]).glob("spool/*")):
            found.append(f"left on disk: {spooled}")
        return found


def kill_postgres(folder: Path) -> None:
    """SIGKILL every process of the embedded PostgreSQL in a server's data folder, if it runs."""
    try:
        first = psutil.Process(int((folder / "postgres" / "postmaster.pid").read_text().split()[0]))
        family = [first, *first.children(recursive=True)]
    except (FileNotFoundError, psutil.NoSuchProcess):
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=DEADLINE_S)


@contextmanager
def world_of(
    kind: str, cluster: Cluster, folder: Path, *, lag: float = 0.0, **settings: Any
) -> Iterator[World]:
    """A world whose database is of this kind; `cluster` is somebody's PostgreSQL, and OpenAI takes
    `lag` seconds for a batch."""
    simulator = Simulator(lag=lag, cancel_s=0.0)
    with ExitStack() as stack:
        base_url = stack.enter_context(running(simulator))
        if kind == "external":
            url = stack.enter_context(cluster.database())
            env = environment(base_url, folder, POSTGRES_URL=url, **settings)
        else:
            url, env = EmbeddedPostgres(folder).url, environment(base_url, folder, **settings)
            stack.callback(kill_postgres, folder)
        world = World(url, simulator, env, folder if kind == "owned, killed too" else None)
        stack.callback(world.kill_all)
        yield world
