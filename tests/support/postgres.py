"""Real PostgreSQL for tests: the embedded one and, where it is installed, the system's."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from openaibatching.server.database.embedded import EmbeddedPostgres

KINDS = ("embedded", "system")
# For tests of what does not depend on PostgreSQL's version.
ONE_KIND = pytest.mark.parametrize("cluster", KINDS[:1], indirect=True)


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL. `url` is that of its maintenance database."""

    url: str
    postgres: EmbeddedPostgres

    def restart(self, mode: str | None = None) -> None:
        """Start it again, after it was stopped or killed; by us, if `mode` is one of pg_ctl's."""
        if mode is not None:
            self.postgres._pg_ctl("stop", "-m", mode, "-w")
        self.postgres.start()

    def url_of(self, database: str) -> str:
        return self.url.replace("/postgres?", f"/{database}?")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement.encode())

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """A database of its own, dropped at the end; its url."""
        name = f"t_{uuid.uuid4().hex}"
        self.execute(f"create database {name}" + (f" template {template}" if template else ""))
        try:
            yield self.url_of(name)
        finally:
            self.execute(f"drop database if exists {name} with (force)")


def system_binaries() -> Path | None:
    """The programs of an installed PostgreSQL 14 or newer."""
    if shutil.which("pg_config") is None:
        return None
    found = subprocess.run(
        ["pg_config", "--bindir"], capture_output=True, text=True, check=True
    ).stdout
    folder = Path(found.strip())
    if not (folder / "initdb").exists():
        return None
    version = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    return folder if int(version.split(".")[0]) >= 14 else None


@contextmanager
def running_cluster(kind: str) -> Iterator[Cluster]:
    """A PostgreSQL of that kind, thrown away at the end, so it need not survive a power cut."""
    binaries = system_binaries() if kind == "system" else None
    folder = Path(tempfile.mkdtemp(prefix="openaibatching-test-"))
    postgres = EmbeddedPostgres(folder, binaries)
    try:
        postgres.start()
        cluster = Cluster(postgres.url, postgres)
        for setting in ("fsync", "full_page_writes"):
            cluster.execute(f"alter system set {setting} = off")
        if binaries is not None:
            # Before PostgreSQL 16 no map of users can let somebody be every role.
            (postgres._data / "pg_hba.conf").write_text("local all all trust\n")
        cluster.execute("select pg_reload_conf()")
        yield cluster
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
