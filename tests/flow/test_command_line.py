"""The commands as processes: in pipes, on terminals, watched until Ctrl-C, completed by a shell."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.real_server import BatchServer, real_server
from clients.scripted_server import ScriptedServer
from clients.serving import serving
from openaibatching.cli import main as cli_main
from openaibatching.cli.main import main
from support.deadline import DEADLINE_S
from support.postgres import running_cluster
from support.run_command import settings
from support.terminal import Terminal

COMMAND = ("-m", "openaibatching")
WATCH = (*COMMAND, "status", "--watch", "--every", "0.1")
LONG_S = 3600.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchServer]:
    """A server with two requests that stay queued."""
    folder = tmp_path_factory.mktemp("server")
    with (
        running_cluster("embedded") as postgres,
        real_server(postgres, ["k"], folder, batch_linger_s=LONG_S) as running,
    ):
        server = BatchServer(running.url, "k", running.clock)
        with server.client() as client:
            for text in ("one", "two"):
                client.responses.create(model="gpt-4o", input=text)
        yield server


@pytest.fixture(scope="module")
def stats(server: BatchServer) -> dict[str, Any]:
    with server._http() as http:
        said: dict[str, Any] = http.get("/v1/stats").json()
    return said


# ----- in pipes and on terminals -----


def test_a_reader_that_has_seen_enough_is_no_error(server: BatchServer) -> None:
    command = f"{sys.executable} -m openaibatching requests --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=settings(server.url, server.key),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_terminal_gets_tables(server: BatchServer) -> None:
    terminal = Terminal([*COMMAND, "status"], settings(server.url, server.key))
    assert terminal.end() == 0
    assert "No batch is under way." in terminal.text()
    assert "\t" not in terminal.text()


def test_a_terminal_without_rich_gets_plain_text(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCH_SERVER_API_KEY", server.key)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["status", "--batch-server-url", server.url]) == 0
    assert "queued\tin_progress\tcompleted" in capsys.readouterr().out


HELPED = """
import sys
from contextlib import suppress
from openaibatching.cli.main import main
for arguments in (["--help"], ["status", "--help"], ["requests", "list", "--help"]):
    with suppress(SystemExit):
        main(arguments)
print(*sys.modules, file=sys.stderr)
"""


def test_the_help_needs_nothing_of_the_server() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELPED], capture_output=True, text=True, check=False
    )
    assert done.stdout.count("usage: openaibatching") == 3, done.stderr
    loaded = set(done.stderr.split())
    assert "openaibatching.cli.remote.requests" in loaded
    assert not [name for name in loaded if name.startswith("openaibatching.server")]
    assert loaded.isdisjoint({"pydantic_settings", "psycopg", "starlette", "msgspec", "rich"})


# ----- watched -----


def with_queued(stats: dict[str, Any], number: int) -> dict[str, Any]:
    return {**stats, "requests": {**stats["requests"], "queued": number}}


def test_a_watch_is_drawn_in_place_outlives_a_server_that_is_away_and_ends_with_ctrl_c(
    stats: dict[str, Any],
) -> None:
    scripted = ScriptedServer().says(with_queued(stats, 1111))
    scripted.says({"error": {"message": "Not now.", "code": "database_unavailable"}}, 503)
    scripted.says(with_queued(stats, 2222))
    with serving(scripted.app) as url:
        terminal = Terminal(WATCH, settings(url, "k"))
        terminal.until("2,222")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
    drawn = terminal.text()
    away = f"{url} answers 503 Service Unavailable, since "
    assert drawn.index("1,111") < drawn.index(away) < drawn.index("2,222")
    assert "trying again until it works" in drawn
    # What was known last stays there meanwhile, and the trouble is gone with the next look.
    assert "1,111" in drawn[drawn.index(away) : drawn.index("2,222")]
    assert away not in drawn[drawn.rindex("1,111") : drawn.index("2,222")]
    assert "Traceback" not in drawn


def test_a_watch_in_a_pipe_is_a_line_a_look_and_says_trouble_beside_it(
    stats: dict[str, Any],
) -> None:
    with serving(ScriptedServer().says(stats).app) as url:
        watch = subprocess.Popen(
            [sys.executable, *WATCH, "--json"], env=settings(url, "k"), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert watch.stdout
        assert watch.stderr
        looks = [json.loads(watch.stdout.readline()) for _ in range(2)]
    assert looks == [stats, stats]
    # The server is gone.
    trouble = watch.stderr.readline()
    assert trouble.startswith(f"{url} cannot be reached: ")
    assert trouble.endswith("trying again until it works\n")
    watch.terminate()
    _, more = watch.communicate(timeout=DEADLINE_S)
    assert (watch.returncode, more) == (0, "")


def test_a_watch_ends_when_the_key_is_taken_back(
    stats: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "k")
    scripted = ScriptedServer().says(stats)
    scripted.says({"error": {"message": "No.", "code": "invalid_api_key"}}, 401)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with serving(scripted.app) as url:
            code = main(["status", "--watch", "--every", "0.1", "--batch-server-url", url])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert code == 2
    said = capsys.readouterr()
    assert said.out.count("# requests\n") == 1
    assert "is not a key of this server" in said.err


@pytest.mark.parametrize(
    ("status", "code", "headers", "ended", "words"),
    [
        (404, "unknown_endpoint", {}, 2, "it is an older server"),
        (429, "rate_limited", {}, 2, "answers 429 Too Many Requests"),
        (429, "budget_exceeded", {"x_should_retry": "false"}, 1, "Told so. (budget_exceeded)"),
        (409, "not_retryable", {}, 1, "Told so. (not_retryable)"),
        (502, "", {}, 2, "answers 502 Bad Gateway"),
        (200, "", {}, 2, "is no batch server"),
    ],
)
def test_what_a_server_says_no_with_is_1_and_what_is_no_answer_is_2(
    status: int, code: str, headers: dict[str, str], ended: int, words: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "k")
    reply = {"error": {"message": "Told so.", "code": code}} if code else {"hello": "world"}
    with serving(ScriptedServer().says(reply, status, **headers).app) as url:
        assert main(["requests", "retry", "a", "--batch-server-url", url]) == ended
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err


# ----- completed by a shell -----

COMPLETE = """
source "$1"; shift
function=$(complete -p openaibatching | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
while read -r line; do
  COMP_WORDS=($line); [[ $line == *' .' ]] && COMP_WORDS[-1]=""
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  $function 2>/dev/null
  echo "${COMPREPLY[*]}"
done
"""
COMPLETED = {
    "openaibatching re": "requests",
    "openaibatching st": "status",
    "openaibatching status --wa": "--watch",
    "openaibatching requests ca": "cancel",
    "openaibatching requests list --status f": "failed",
    "openaibatching cost --by mo": "model",
    "openaibatching run --ou": "--output",
    "openaibatching serve --batch-l": "--batch-linger-s",
    "openaibatching simulate --tok": "--token-limit",
    "openaibatching completion .": "bash zsh fish",
}
"""A line (a dot is a word that has not begun), and what a shell makes of its last word."""


def test_bash_completes_commands_their_words_and_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", script], input="\n".join(COMPLETED) + "\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert dict(zip(COMPLETED, done.stdout.splitlines(), strict=True)) == COMPLETED, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shells_script_knows_every_command(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in cli_main.COMMANDS:
        assert re.search(rf"\b{command}\b", script), command
    assert "batch-linger-s" in script
