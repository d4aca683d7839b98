import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from openaibatching.simulator import command

RUN = "import sys; from openaibatching.simulator.command import main; sys.exit(main(sys.argv[1:]))"


def test_the_command_prints_its_url_and_ends_on_sigterm() -> None:
    arguments = [sys.executable, "-c", RUN, "--port", "0", "--lag", "0", "--fault", "error_500=0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1")
        state = url.removesuffix("/v1") + "/_simulator/state"
        with urllib.request.urlopen(state, timeout=5) as reply:
            assert json.load(reply) == {"files": [], "batches": []}
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


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
