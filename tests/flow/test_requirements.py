"""What the service needs of its database: asked at the start and in /ready, one line if missing."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from openaibatching.server.database.migrations import migrate
from openaibatching.server.database.requirements import prepare
from openaibatching.server.errors import ConfigError
from support.deadline import DEADLINE_S
from support.postgres import ONE_KIND, Cluster
from support.process import free_port

pytestmark = ONE_KIND


async def refusal(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        await prepare(url, wait_s=5)
    message = str(caught.value)
    assert message.startswith("POSTGRES_URL: ")
    assert "\n" not in message
    return message


async def test_what_has_all_that_is_needed_is_taken_twice(cluster: Cluster) -> None:
    with cluster.database() as url:
        await prepare(url, wait_s=5)
        await prepare(url, wait_s=5)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_an_encoding_that_cannot_hold_every_text(cluster: Cluster, encoding: str) -> None:
    name = f"encoded_{encoding.lower()}"
    cluster.execute(f"create database {name} encoding '{encoding}' template template0 locale 'C'")
    try:
        assert f"the database's encoding is {encoding}" in await refusal(cluster.url_of(name))
        with psycopg.connect(cluster.url_of(name)) as conn:
            made = conn.execute("select to_regnamespace('openaibatching')").fetchone()
        assert made == (None,), "nothing was made in it"
    finally:
        cluster.execute(f"drop database {name} with (force)")


async def test_a_client_encoding_of_the_role_changes_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with cluster.database() as url:
        await prepare(url, wait_s=5)


async def test_a_database_that_takes_no_writes(cluster: Cluster) -> None:
    with cluster.database() as url:
        await prepare(url, wait_s=5)
        name = conninfo_to_dict(url)["dbname"]
        cluster.execute(f"alter database {name} set default_transaction_read_only = on")
        assert "the database is read-only" in await refusal(url)


@contextmanager
def role(cluster: Cluster, name: str, url: str) -> Iterator[str]:
    """A role without any right of its own; the database's url for it."""
    cluster.execute(f"create role {name} login")
    try:
        yield url.replace("postgresql://postgres@", f"postgresql://{name}@")
    finally:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(f"drop owned by {name}".encode())
        cluster.execute(f"drop role {name}")


async def test_rights_that_are_missing(cluster: Cluster) -> None:
    with cluster.database() as url, role(cluster, "a_guest", url) as guest:
        assert "may not make the schema" in await refusal(guest)
        await migrate(url, wait_s=5)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("grant usage on schema openaibatching to a_guest")
            conn.execute("grant select on openaibatching.meta to a_guest")
            assert "the user lacks rights on openaibatching." in await refusal(guest)
            conn.execute("grant all on all tables in schema openaibatching to a_guest")
            conn.execute("grant all on all sequences in schema openaibatching to a_guest")
            await prepare(guest, wait_s=5)
            conn.execute("revoke delete on openaibatching.event from a_guest")
        assert "lacks rights on openaibatching.event" in await refusal(guest)


@contextmanager
def pgbouncer(url: str, mode: str, folder: Path) -> Iterator[str]:
    """A PgBouncer before the database; the database's url through it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    parts, port = conninfo_to_dict(url), free_port()
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"d = host={parts['host']} dbname={parts['dbname']} user=postgres\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 10\n"
    )
    as_user: list[str] = []
    if getpass.getuser() == "root":  # which pgbouncer refuses to be
        folder.chmod(0o755)
        for parent in folder.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o001)
        as_user = ["-u", "openaibatching"]
    process = subprocess.Popen(
        [program, "-q", *as_user, str(folder / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    through = f"postgresql://postgres@127.0.0.1:{port}/d"
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                psycopg.connect(through, autocommit=True).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield through
    finally:
        process.terminate()
        process.wait()


async def test_pgbouncer_in_transaction_mode_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.database() as url, pgbouncer(url, "transaction", tmp_path) as through:
        assert "LISTEN does not outlast a transaction" in await refusal(through)


async def test_pgbouncer_in_session_mode_is_taken(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.database() as url, pgbouncer(url, "session", tmp_path) as through:
        await prepare(through, wait_s=5)
