"""Secrets in files and certificates are read again on SIGHUP, all of them or none."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest
import trustme
from psycopg.conninfo import make_conninfo

from openaibatching.server.renewal import Terminal
from openaibatching.simulator import Simulator, running
from support.postgres import ONE_KIND, Cluster, running_cluster
from support.process import ServerProcess, environment, server_process
from support.steps import chat

OLD, NEW = "key-of-the-callers-before", "key-of-the-callers-after"
FILES = {
    "OPENAI_API_KEY": "sk-hidden-before",
    "BATCH_SERVER_API_KEY": OLD,
    "OPENAI_WEBHOOK_SECRET": "whsec_aGlkZGVuLWJlZm9yZQ==",
}


@pytest.fixture
def simulator() -> Simulator:
    """OpenAI knows the new key only."""
    return Simulator(lag=0.0, api_keys={"sk-hidden-after"})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@contextmanager
def serving(
    simulator: Simulator, files: Path, database_url: str, tls: ssl.SSLContext | None = None,
    **changes: object,
) -> Iterator[ServerProcess]:  # fmt: skip
    with running(simulator) as base_url:
        env = environment(base_url, files.parent, POSTGRES_URL=database_url, **changes)
        for path in files.iterdir():
            env.pop(path.name, None)
            env[f"{path.name}_FILE"] = str(path)
        with server_process(env, tls=tls) as server:
            yield server
            log = server.log.read_text()
            assert "hidden" not in log
            assert OLD not in log
            assert NEW not in log


def status(server: ServerProcess, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{server.url}/v1/requests", headers=headers).status_code


def answer(server: ServerProcess, key: str) -> bool:
    """Whether a call of this key's is answered."""
    reply = httpx2.post(
        f"{server.url}/v1/chat/completions", json=chat("renewed"), timeout=90,
        headers={"Authorization": f"Bearer {key}", "Prefer": "wait=60"},
    )  # fmt: skip
    return bool(reply.json()["has_completed"])


@ONE_KIND
def test_keys_in_files_are_read_again(simulator: Simulator, files: Path, database_url: str) -> None:
    with serving(simulator, files, database_url) as server:
        assert status(server, OLD) == 200
        (files / "BATCH_SERVER_API_KEY").write_text(f"{NEW}\n")
        (files / "OPENAI_API_KEY").write_text("sk-hidden-after")
        assert status(server, NEW) == 401, "before the signal nothing changes"
        server.signal(signal.SIGHUP)
        server.until_logged("settings_reloaded")
        assert "changed=['OPENAI_API_KEY', 'BATCH_SERVER_API_KEY']" in server.log.read_text()
        assert status(server, NEW) == 200
        assert status(server, OLD) == 401
        assert answer(server, NEW), "the new key of OpenAI is used"
        assert server.terminate() == 0


@ONE_KIND
@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("OPENAI_API_KEY", "", "is empty"),
        ("BATCH_SERVER_API_KEY", f"a={NEW},a={OLD}", "the same name or the same key twice"),
        ("OPENAI_WEBHOOK_SECRET", None, "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(
    simulator: Simulator, files: Path, database_url: str, name: str, text: str | None, told: str
) -> None:
    with serving(simulator, files, database_url) as server:
        (files / "BATCH_SERVER_API_KEY").write_text(NEW)
        if text is None:
            (files / name).unlink()
        else:
            (files / name).write_text(text)
        server.signal(signal.SIGHUP)
        server.until_logged("reload_refused")
        assert told in server.log.read_text()
        assert status(server, OLD) == 200
        assert status(server, NEW) == 401
        # What is mended is taken the next time.
        (files / name).write_text(FILES[name] if name != "BATCH_SERVER_API_KEY" else NEW)
        server.signal(signal.SIGHUP)
        server.until_logged("settings_reloaded")
        assert status(server, NEW) == 200


def shown(server: ServerProcess) -> str:
    """The certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", server.port))


@ONE_KIND
def test_a_renewed_certificate_is_shown_to_new_connections(
    simulator: Simulator, files: Path, database_url: str
) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    certificate, key = files.parent / "cert.pem", files.parent / "key.pem"

    def put(issued: trustme.LeafCert) -> str:
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return issued.cert_chain_pems[0].bytes().decode()

    first = put(authority.issue_cert("127.0.0.1"))
    tls = {"SSL_CERTFILE": certificate, "SSL_KEYFILE": key}
    with serving(simulator, files, database_url, trusting, **tls) as server:
        assert shown(server).split() == first.split()
        second = put(authority.issue_cert("127.0.0.1"))
        server.signal(signal.SIGHUP)
        server.until_logged("settings_reloaded")
        assert shown(server).split() == second.split()
        # A key that does not fit, as in the middle of a renewal.
        authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(key)
        server.signal(signal.SIGHUP)
        server.until_logged("reload_refused")
        assert shown(server).split() == second.split()
        with httpx2.Client(verify=trusting) as client:
            assert client.get(f"{server.url}/health").status_code == 200


@pytest.fixture
def guarded() -> Iterator[Cluster]:
    """A PostgreSQL that asks the role `app` for its password."""
    with running_cluster("embedded") as cluster:
        cluster.execute("create role app login password 'hidden-before'")
        cluster.execute("grant create on database postgres to app")
        access = cluster.postgres._data / "pg_hba.conf"
        access.write_text(f"local all app scram-sha-256\n{access.read_text()}")
        cluster.execute("select pg_reload_conf()")
        yield cluster


def test_the_password_of_the_database_is_read_again_and_another_database_is_refused(
    simulator: Simulator, files: Path, guarded: Cluster
) -> None:
    def url(password: str, **changes: str) -> str:
        return make_conninfo(guarded.url, user="app", password=password, **changes)

    file = files / "POSTGRES_URL"
    file.write_text(url("hidden-before"))
    with serving(simulator, files, "") as server:
        guarded.execute("alter role app password 'hidden-after'")
        file.write_text(url("hidden-after", dbname="template1"))
        server.signal(signal.SIGHUP)
        server.until_logged("reload_refused")
        assert "POSTGRES_URL names another database" in server.log.read_text()
        file.write_text(url("hidden-after"))
        server.signal(signal.SIGHUP)
        server.until_logged("settings_reloaded")
        guarded.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                        " where usename = 'app'")  # fmt: skip
        server.until_logged("listening_interrupted")
        server.wait_ready()
        assert status(server, OLD) == 200
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url("hidden-before"))


@ONE_KIND
def test_a_server_without_files_takes_the_signal_and_goes_on(
    simulator: Simulator, tmp_path: Path, database_url: str
) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    with serving(simulator, empty, database_url) as server:
        server.signal(signal.SIGHUP)
        server.until_logged("settings_reloaded")
        assert json.loads(httpx2.get(f"{server.url}/health").content) == {"status": "ok"}


def test_a_terminal_that_closes_is_no_wish_to_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        terminal = Terminal()
        gone = [terminal.is_gone]
        os.close(ours)
        assert [*gone, terminal.is_gone] == [False, True]
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not Terminal().is_gone, "a service never had one"
