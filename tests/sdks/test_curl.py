"""Plain curl: the commands of the page, run by a shell as they stand there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sdks.server import PAGE, Server
from support.deadline import DEADLINE_S
from support.readme import ADDRESS, commands_in

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
CALL, PROGRAM = commands_in(PAGE.read_text("utf-8"), "curl")


def shell(
    command: str, server: Server, folder: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command of the page; the key is in the environment, as it has it."""
    return subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, server.url)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=DEADLINE_S, **options,
    )  # fmt: skip


def called(server: Server, folder: Path, command: str = CALL) -> tuple[dict[str, Any], str]:
    """The body and the status that a call prints."""
    body, status = shell(command, server, folder).stdout.rsplit(" status ", 1)
    return json.loads(body), status


def test_a_call_is_202_first_and_200_with_the_answer_later(server: Server, tmp_path: Path) -> None:
    body, status = called(server, tmp_path)
    assert (body["choices"], body["has_completed"], status) == ([], False, "202")
    server.finish()
    body, status = called(server, tmp_path)
    assert (body["has_completed"], status) == (True, "200")
    assert body["choices"][0]["message"]["content"] == "You said: Hello, world!"
    assert len(server.requests()) == 1


def test_the_headers_of_a_202_say_when_to_ask_again_and_by_which_id(
    server: Server, tmp_path: Path
) -> None:
    head = shell(f"{CALL} -o body.json -D -", server, tmp_path).stdout.lower()
    body = json.loads((tmp_path / "body.json").read_text())
    assert "\nretry-after: " in head
    assert f"\nx-batching-id: {body['batching']['id']}\n" in head.replace("\r", "")


def test_a_program_that_waits_succeeds_with_the_answer(server: Server, tmp_path: Path) -> None:
    impatient = PROGRAM.replace("wait=600", "wait=0")
    assert impatient != PROGRAM
    assert shell(impatient, server, tmp_path).returncode != 0
    server.finish()
    assert shell(PROGRAM, server, tmp_path).returncode == 0
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["output"][0]["content"][0]["text"] == "You said: Hello, world!"


def test_a_failed_call_has_the_status_and_the_error_of_openai(
    server: Server, tmp_path: Path
) -> None:
    server.finish()
    failing = CALL.replace("Hello, world!", "[[simulate:status=400]]") + " -H 'Prefer: wait=60'"
    body, status = called(server, tmp_path, failing)
    assert (status, body["error"]["type"]) == ("400", "invalid_request_error")
    program = PROGRAM.replace("Hello, world!", "[[simulate:status=500]]")
    assert shell(program, server, tmp_path).returncode != 0
    assert json.loads((tmp_path / "answer.json").read_text())["error"]["type"] == "server_error"
