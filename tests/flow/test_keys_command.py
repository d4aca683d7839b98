"""`openaibatching keys` as people use it: what it shows, and how it says no."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from openaibatching.cli.main import main
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.server.database.migrations import migrate
from support.deadline import DEADLINE_S
from support.keys import KeysCommand
from support.postgres import ONE_KIND
from support.process import environment

FORM = re.compile(r"ob_[A-Za-z0-9_-]{43}")


@pytest.fixture
def keys(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> KeysCommand:
    monkeypatch.setenv("POSTGRES_URL", database_url)
    return KeysCommand(capsys)


def test_a_key_is_shown_once_and_alone_on_stdout(keys: KeysCommand) -> None:
    key = keys.create("ci")
    assert FORM.fullmatch(key)
    assert "'ci' of tenant 'default'" in keys.said
    header, row = keys("list").splitlines()
    assert header.split("\t")[:3] == ["id", "name", "tenant"]
    shown = row.split("\t")
    assert shown[1:5] == ["ci", "default", "submit", f"{key[:7]}…"]
    assert shown[6:] == ["never", "active"]
    assert key not in row


def test_scripts_get_json(keys: KeysCommand) -> None:
    made = json.loads(keys("create", "ci", "--tenant", "team", "--json"))
    assert FORM.fullmatch(made.pop("key"))
    assert json.loads(keys("list", "--json")) == [made]
    assert (made["name"], made["tenant"], made["state"]) == ("ci", "team", "active")
    turned = json.loads(keys("rotate", "ci", "--overlap-hours", "2", "--json"))
    assert turned["tenant"] == "team"
    assert json.loads(keys("revoke", turned["id"], "--json"))["state"] == "revoked"
    assert [key["state"] for key in json.loads(keys("list", "--json"))] == ["ending", "revoked"]


def test_a_key_has_a_scope_and_an_end_and_its_successor_has_the_same(keys: KeysCommand) -> None:
    keys.create("graph", "--scope", "read", "--expires", "90d")
    assert "scope read, until 2" in keys.said
    keys("rotate", "graph")
    old, new = keys.listed("graph")
    assert (old["scope"], new["scope"]) == ("read", "read")
    for key in (old, new):
        assert key["expires_at"] - key["created_at"] == 90 * 86_400
    keys("rotate", "graph", "--expires", "2h")
    newest = keys.listed("graph")[-1]
    assert newest["expires_at"] - newest["created_at"] == 7200
    assert keys("list").splitlines()[-1].split("\t")[-1].startswith("ends 2")


def test_an_expired_key_is_listed_as_expired_and_cannot_be_revoked(
    keys: KeysCommand, database_url: str
) -> None:
    keys.create("short", "--expires", "1h")
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("update openaibatching.api_key set expires_at = now() - interval '1 min'")
    assert [key["state"] for key in keys.listed("short")] == ["expired"]
    keys("revoke", "short", code=1)
    assert "has ended already" in keys.said


def test_a_terminal_gets_a_table(keys: KeysCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.create("[bold]ci")
    (made,) = keys.listed("[bold]ci")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    table = keys("list")
    assert made["id"] in table
    assert "[bold]ci" in table
    assert "\t" not in table


def test_a_name_that_more_than_one_key_has_is_not_guessed(keys: KeysCommand) -> None:
    keys.create("twin")
    keys.create("twin")
    first, second = keys.listed("twin")
    for action in ("revoke", "rotate"):
        keys(action, "twin", code=1)
        assert first["id"] in keys.said
        assert second["id"] in keys.said
        assert keys.said.count("\n") == 1
    keys("revoke", first["id"])
    keys("rotate", "twin")  # only one is left that can be meant
    assert [key["state"] for key in keys.listed("twin")] == ["revoked", "revoked", "active"]


def test_a_key_that_is_not_there_or_not_any_more_is_said_in_one_line(keys: KeysCommand) -> None:
    keys.create("old")
    keys("rotate", "old", "--overlap-hours", "1")
    (old, _) = keys.listed("old")
    for action, which, told in (
        ("revoke", "nobody", "there is no key"),
        ("rotate", "00000000-0000-0000-0000-000000000000", "there is no key"),
        ("rotate", old["id"], "is being replaced already"),
    ):
        keys(action, which, code=1)
        assert told in keys.said
        assert keys.said.count("\n") == 1
    keys("revoke", old["id"])
    keys("revoke", old["id"], code=1)
    assert "has ended already" in keys.said


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("delete", "x"),
        ("create",),
        ("create", ""),
        ("create", "x" * 65),
        ("create", "a\nb"),
        ("create", "x", "--tenant", ""),
        ("create", "x", "--tenant", "a b"),
        ("create", "x", "--tenant", "a" * 65),
        ("create", "x", "--scope", "all"),
        *(("create", "x", "--expires", text) for text in ("90", "0d", "-1d", "d", "1y", "4000d")),
        ("rotate", "x", "--overlap-hours", "-1"),
        ("rotate", "x", "--overlap-hours", "nan"),
        ("rotate", "x", "--overlap-hours", "soon"),
        ("revoke",),
    ],
)
def test_misuse_is_said_before_the_database_is_asked(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", "postgresql://nowhere.invalid/")
    with pytest.raises(SystemExit) as end:
        main(["keys", *arguments])
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("POSTGRES_URL", "nonsense", "POSTGRES_URL is not valid"),
        ("POSTGRES_URL", "postgresql://u:hidden@127.0.0.1:1/db", "POSTGRES_URL: no database there"),
        ("DATABASE_WAIT_S", "soon", "DATABASE_WAIT_S is not valid"),
        ("POSTGRES_URL", "", "no server has kept its database in DATA_DIR"),
    ],
)
def test_a_database_that_is_not_there_is_one_line(
    variable: str, value: str, told: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    monkeypatch.setenv("DATABASE_WAIT_S", "0")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setenv(variable, value)
    keys = KeysCommand(capsys)
    for arguments in (("list",), ("create", "x"), ("revoke", "x")):
        assert keys(*arguments, code=2) == ""
        assert told in keys.said
        assert keys.said.count("\n") == 1
        assert "hidden" not in keys.said
    assert not (tmp_path / "none").exists()


def test_the_embedded_database_of_a_stopped_server_is_started_for_a_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    embedded = EmbeddedPostgres(tmp_path)
    embedded.start()
    asyncio.run(migrate(embedded.url, wait_s=10))  # as its server did
    embedded.stop()
    keys = KeysCommand(capsys)
    keys.create("early", "--data-dir", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert [key["state"] for key in keys.listed("early")] == ["active"]
    assert not [
        process for process in psutil.process_iter(["name", "cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or [])
    ]  # fmt: skip


@ONE_KIND
def test_the_command_of_the_shell_needs_no_key_of_openais(
    database_url: str, tmp_path: Path
) -> None:
    env = environment("", tmp_path, POSTGRES_URL=database_url)
    del env["OPENAI_API_KEY"]
    command = [sys.executable, "-m", "openaibatching", "keys", "create", "shell"]
    made = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert FORM.fullmatch(made.stdout.removesuffix("\n"))
    assert made.stderr.count("\n") == 1
