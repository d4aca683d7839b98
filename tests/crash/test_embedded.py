"""The embedded PostgreSQL: started and stopped by the server, and found again after any kill."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict

from conftest import Upstreamed
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.server.database.embedded_programs import SYSTEM_USER, installed, within_reach
from support.deadline import DEADLINE_S
from support.other_users import folder_of
from support.process import ServerProcess, environment, server_process
from support.steps import chat
from support.world import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def env(upstream: Upstreamed, tmp_path: Path) -> dict[str, str]:
    return environment(upstream.base_url, tmp_path)


def ask(server: ServerProcess, text: str, wait: int) -> Any:
    reply = httpx2.post(
        f"{server.url}/v1/chat/completions",
        json=chat(text),
        headers=HEADERS | {"Prefer": f"wait={wait}"},
        timeout=DEADLINE_S,
        verify=False,
    )
    return reply.json()


def postmaster(folder: Path) -> psutil.Process | None:
    """The main process of the database in `folder`."""
    try:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split("\n")[0])
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def test_it_stops_with_the_server_and_keeps_what_it_stored(
    env: dict[str, str], tmp_path: Path, upstream: Upstreamed
) -> None:
    with server_process(env) as server:
        assert ask(server, "kept", wait=30)["has_completed"]
        assert postmaster(tmp_path) is not None
        assert server.terminate() == 0
    assert postmaster(tmp_path) is None
    with server_process(env) as server:
        assert ask(server, "kept", wait=0)["has_completed"]
        assert server.terminate() == 0
    assert upstream.simulator.ledger.lines == 1


def test_a_database_that_outlived_its_killed_server_is_used_again_and_then_stopped(
    env: dict[str, str], tmp_path: Path
) -> None:
    with server_process(env) as server:
        assert ask(server, "kept", wait=30)["has_completed"]
        server.kill()
    survivor = postmaster(tmp_path)
    assert survivor is not None
    with server_process(env) as server:
        assert postmaster(tmp_path) == survivor
        assert ask(server, "kept", wait=0)["has_completed"]
        assert server.terminate() == 0
    assert postmaster(tmp_path) is None


def test_server_and_database_killed_together_come_back_together(
    env: dict[str, str], tmp_path: Path
) -> None:
    with server_process(env) as server:
        assert ask(server, "kept", wait=30)["has_completed"]
        database = postmaster(tmp_path)
        assert database is not None
        server.kill()
        family = [database, *database.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):  # its server is gone: it may have ended by itself
                process.kill()
        psutil.wait_procs(family, timeout=DEADLINE_S)
    with server_process(env) as server:
        assert ask(server, "kept", wait=0)["has_completed"]
        assert server.terminate() == 0


def test_a_database_that_dies_under_a_running_server_is_started_again(
    env: dict[str, str], tmp_path: Path
) -> None:
    with server_process(env) as server:
        assert ask(server, "before", wait=30)["has_completed"]
        database = postmaster(tmp_path)
        assert database is not None
        database.send_signal(signal.SIGKILL)
        database.wait(timeout=DEADLINE_S)
        server.wait_ready()
        assert ask(server, "before", wait=0)["has_completed"]
        assert ask(server, "after", wait=30)["has_completed"]
        assert server.terminate() == 0


def socket_lock(postgres: EmbeddedPostgres) -> Path:
    """The lock file beside its socket."""
    return Path(str(conninfo_to_dict(postgres.url)["host"])) / ".s.PGSQL.5432.lock"


@contextmanager
def stranger() -> Iterator[int]:
    """The number of a living process of PostgreSQL's user that is no PostgreSQL."""
    user = SYSTEM_USER if os.geteuid() == 0 else None
    process = subprocess.Popen(["sleep", "600"], user=user)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_stale_process_number_that_another_program_has_now_is_no_obstacle(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    first = EmbeddedPostgres(folder)
    first.start()
    database = postmaster(folder)
    assert database is not None
    locks = [folder / "postgres" / "postmaster.pid", socket_lock(first)]
    for process in (database, *database.children()):
        process.kill()
    psutil.wait_procs([database], timeout=DEADLINE_S)
    # As in a container that starts again: the number belongs to some other process now.
    with stranger() as number:
        for lock in locks:
            lines = lock.read_text().split("\n")
            lock.write_text("\n".join([str(number), *lines[1:]]))
        second = EmbeddedPostgres(folder)
        second.start()
        assert postmaster(folder) is not None
    first.stop()
    second.stop()
    assert postmaster(folder) is None


def test_its_folder_may_be_named_from_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    postgres = EmbeddedPostgres(Path("data"))
    postgres.start()
    assert postmaster(tmp_path / "data") is not None
    postgres.stop()
    assert postmaster(tmp_path / "data") is None


def test_the_last_of_two_servers_on_one_folder_stops_it(tmp_path: Path) -> None:
    one, two = EmbeddedPostgres(tmp_path / "data"), EmbeddedPostgres(tmp_path / "data")
    one.start()
    two.start()
    one.stop()
    assert postmaster(tmp_path / "data") is not None
    two.stop()
    assert postmaster(tmp_path / "data") is None


AS_USER = """
import os, sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import psycopg
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.server.database.embedded_programs import SYSTEM_USER, installed, within_reach

# Only now, because root's Python may lie where nobody else can read it.
uid, gid = int(sys.argv[2]), int(sys.argv[3])
os.setgroups([]); os.setgid(gid); os.setuid(uid)
postgres = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[4]))
postgres.start()
with psycopg.connect(postgres.url) as conn:
    print(conn.execute("select current_setting('server_version_num')").fetchone()[0])
print(os.stat(sys.argv[1] + "/postgres").st_uid == uid)
postgres.stop()
"""


def test_it_runs_as_an_ordinary_user_too() -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: every other test here already runs as an ordinary user")
    nobody = pwd.getpwnam("nobody")
    with folder_of(nobody) as folder:
        programs = within_reach(installed())
        arguments = [str(folder), str(nobody.pw_uid), str(nobody.pw_gid), str(programs)]
        done = subprocess.run(
            [sys.executable, "-c", AS_USER, *arguments], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("18")
    assert done.stdout.endswith("True\n")


NEW_USER = """
import sys
from openaibatching.server.database import embedded_programs

embedded_programs.SYSTEM_USER = sys.argv[1]
print("here", flush=True)
sys.stdin.read()  # until all are here
print(embedded_programs.system_user().pw_uid)
"""


def test_servers_that_start_at_once_on_a_new_machine_make_one_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: no user is made")
    name = f"oab-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-c", NEW_USER, name]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(6)
    ]
    try:
        assert [process.stdout.readline() for process in started if process.stdout] == [
            b"here\n"
        ] * len(started)
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
        said = {process.stdout.read() for process in started if process.stdout is not None}
        assert [process.wait() for process in started] == [0] * len(started)
        assert said == {b"%d\n" % pwd.getpwnam(name).pw_uid}
    finally:
        subprocess.run(["userdel", name], check=False)
        for process in started:
            if process.stdout is not None:
                process.stdout.close()
