"""Whatever others have written, a command shows no control character, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.responses import Response

from clients.scripted_server import ScriptedServer
from openaibatching import terminal
from openaibatching.cli import main as cli_main
from openaibatching.cli.main import main

# Escape, bell, a C1 control, DEL, a change of the reading order, a line separator, a surrogate.
EVIL = "\x1b[2J\x07\x9b31m\x7f\u202e\u2028\ud800"
SEEN = "evil"


def harmful(text: str) -> list[str]:
    return [c for c in text if not c.isprintable() and c not in "\n\t"]


@pytest.fixture
def at_scripted(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    monkeypatch.setenv("BATCH_SERVER_URL", scripted.url)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "k")
    return scripted


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of a command, and all that it writes."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    written = capsys.readouterr()
    return code, written.out + written.err


def test_a_line_is_one_line_and_harmless() -> None:
    assert terminal.clean(f"a\tb\n{EVIL}c") == "a b \ufffd[2J\ufffd\ufffd31m\ufffd\ufffd \ufffdc"
    assert terminal.clean("Grüße, 世界 🙂") == "Grüße, 世界 🙂"


def test_json_stays_the_same_json() -> None:
    given = {"text": f"{EVIL} Grüße 🙂 \U000e0001"}
    raw = json.dumps(given, ensure_ascii=False, indent=1)
    cleaned = terminal.clean_json(raw)
    assert json.loads(cleaned) == given
    assert harmful(cleaned) == []
    assert "Grüße 🙂" in cleaned


LISTS = (["requests", "list"], ["batches", "list"])


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("words", LISTS)
def test_what_a_server_says_is_harmless(
    *, words: list[str], as_json: bool, at_scripted: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = EVIL.replace("\ud800", "")
    row: dict[str, object] = {
        "id": f"{SEEN}{text}",
        "attempts": 1,
        "created_at": 1,
        "completed_at": None,
    } | dict.fromkeys(
        (
            "status",
            "endpoint",
            "model",
            "batch_id",
            "upstream_status",
            "last_error",
            "state",
            "reason",
        ),
        text,
    )
    row |= dict.fromkeys(("requests", "own_requests", "requeued", "tries"), 1)
    row |= dict.fromkeys(("stuck", "submitted_at", "ended_at", "closed_at"))
    row["estimated_completion_at"] = None
    row["request_counts"] = {"total": 1, "completed": 0, "failed": 0}
    body = {"object": "list", "data": [row], "first_id": "a", "last_id": "a", "has_more": False}
    raw = json.dumps(body, ensure_ascii=False).replace("\x1b", "\\u001b").replace("\x07", "\\u0007")
    at_scripted.replies.append(Response(raw.encode(), media_type="application/json"))
    code, written = shown([*words, *(["--json"] if as_json else [])], capsys)
    assert SEEN in written
    assert harmful(written) == []
    assert code == 0


@pytest.mark.parametrize("words", [*LISTS, ["status"], ["cost"]])
def test_a_reply_of_another_form_is_told_in_one_line(
    words: list[str], at_scripted: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    at_scripted.says({"object": "list", "data": [{"id": 1, "status": None}, 7], "has_more": False})
    code, written = shown(words, capsys)
    assert code == 2
    assert written.count("\n") == 1
    assert "not understood" in written or "no batch server" in written


@pytest.mark.parametrize("words", [*LISTS, ["status"], ["flush"], ["requests", "show", "x"]])
def test_what_a_server_refuses_with_is_harmless(
    words: list[str], at_scripted: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"message": f"{SEEN}{EVIL}", "type": EVIL, "param": None, "code": EVIL}
    at_scripted.says({}).replies.clear()
    raw = json.dumps({"error": error}).encode()
    at_scripted.replies.append(Response(raw, 404, media_type="application/json"))
    code, written = shown(words, capsys)
    assert (code, SEEN in written, harmful(written)) == (1, True, [])


ODD = [
    [f"x{EVIL}"],
    ["requests", f"x{EVIL}"],
    ["requests", "list", "--status", EVIL],
    ["status", "--batch-server-url", f"http://h{EVIL}"],
    ["status", "--batch-server-url", "http://[::1"],
    ["run", f"missing{EVIL}", "-o", "/nowhere/x"],
    ["run", ".", "-o", "out.jsonl"],
    ["run", "\0", "-o", "out.jsonl"],
    ["serve", "--host", f"h{EVIL}"],
    ["serve", f"--{EVIL}"],
    ["serve", "--log-level", EVIL],
    ["serve", "--ssl-certfile", EVIL, "--ssl-keyfile", "\0"],
    ["serve", "--data-dir", "\0"],
    ["keys", "create", EVIL],
    ["keys", "list", "--data-dir", f"/dev/null/{EVIL}"],
    ["keys", "revoke", EVIL, "--data-dir", "\0"],
    ["simulate", "--lag", EVIL],
    ["simulate", "--fault", EVIL],
    ["simulate", "--host", f"h{EVIL}"],
    ["simulate", "--host", "\0"],
    ["completion", EVIL],
    ["demo", EVIL],
]


@pytest.mark.parametrize("arguments", ODD, ids=repr)
def test_odd_arguments_are_told_harmlessly_and_without_a_traceback(
    arguments: list[str], at_scripted: ScriptedServer, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-simulated")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("POSTGRES_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv("DATABASE_WAIT_S", "0")
    at_scripted.says({})
    code, written = shown(arguments, capsys)
    assert code in (1, 2)
    assert written
    assert "Traceback" not in written
    assert "mistake of this program" not in written
    assert harmful(written) == []


def test_a_mistake_of_ours_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_command: object) -> object:
        raise KeyError(EVIL)

    monkeypatch.setattr(cli_main.Command, "load", broken)
    code, written = shown(["status"], capsys)
    assert code == 2
    assert written.count("\n") == 1
    assert "KeyError" in written
    assert "test_terminal.py, line" in written
    assert harmful(written) == []
