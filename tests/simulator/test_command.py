import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from openaibatching.simulator import Faults, command
from openaibatching.simulator.faults.markers import AT_VALIDATION, IN_RESULT
from support.deadline import DEADLINE_S

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
RUN = "import sys; from openaibatching.simulator.command import main; sys.exit(main(sys.argv[1:]))"


@contextlib.contextmanager
def running_command(*arguments: str) -> Iterator[str]:
    """The command in a process of its own, ended by SIGTERM; its base URL."""
    command_line = [sys.executable, "-c", RUN, *arguments]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_the_command_prints_its_url_and_ends_on_sigterm() -> None:
    with running_command("--port", "0", "--lag", "0", "--fault", "error_500=0") as url:
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1")
        state = url.removesuffix("/v1") + "/_simulator/state"
        with urllib.request.urlopen(state, timeout=DEADLINE_S) as reply:
            assert json.load(reply) == {"files": [], "batches": []}


def test_the_help_names_all_faults_and_markers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    words = set(capsys.readouterr().out.split())
    assert {field.name for field in fields(Faults)} - {"seed"} <= words
    assert words >= AT_VALIDATION | IN_RESULT


def test_the_page_about_the_simulator_names_all_options_faults_and_markers() -> None:
    page = PAGE.read_text("utf-8")
    told = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert {field.name for field in fields(Faults)} - told == {"seed"}
    assert (AT_VALIDATION | IN_RESULT) - told == set()
    options = set(re.findall(r"--[a-z-]+", command.parser().format_usage()))
    assert options - set(re.findall(r"`(--[a-z-]+)", page)) == set()


def test_keys_models_and_creations_can_be_limited() -> None:
    arguments = ["--port", "0", "--lag", "0", "--api-key", "sk-right", "--model", "gpt-4o-mini"]
    with running_command(*arguments, "--creates-per-hour", "1", "--cancel", "600") as url:

        def client(key: str) -> OpenAI:
            return OpenAI(base_url=url, api_key=key, max_retries=0)

        with client("sk-wrong") as wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        with client("sk-right") as right:
            assert [model.id for model in right.models.list()] == ["gpt-4o-mini"]
            order: Any = {
                "input_file_id": "file-x", "endpoint": "/v1/responses", "completion_window": "24h",
            }  # fmt: skip
            right.batches.create(**order)
            with pytest.raises(openai.RateLimitError):
                right.batches.create(**order)


def test_a_taken_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.main(["--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fault", "no_such=1"], "no such fault"),
        (["--fault", "stuck"], "expected NAME=NUMBER"),
        (["--fault", "stuck=1.5"], "from 0 to 1"),
        (["--token-limit", "gpt-4o=many"], "expected NAME=NUMBER"),
        (["--port", "99999"], "cannot listen"),
        (["--host", "no-such-host.invalid", "--port", "0"], "cannot listen"),
        (["--lag", "-1"], "lag"),
        (["--cancel", "-1"], "cancel_s"),
        (["--webhook-url", "http://127.0.0.1:1"], "webhook_secret"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert complaint in error
