"""`openaibatching serve` as its users start it: wrong settings, the made key, flags."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from openaibatching.cli.main import main
from support.deadline import DEADLINE_S
from support.process import environment, server_process

NOWHERE = "postgresql://user:hidden-password@127.0.0.1:1/db"


def start(env: dict[str, str], *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "openaibatching", "serve", *flags],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def refusal(process: subprocess.Popen[str]) -> str:
    """The one line with which a start ends."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode != 0
    assert out == ""
    assert err.count("\n") == 1, err
    assert "hidden-password" not in err
    return err


WRONG: list[tuple[dict[str, str], str]] = [
    ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY is required"),
    ({"BATCH_LINGER_S": "soon"}, "BATCH_LINGER_S is not valid"),
    ({"PORT": "70000"}, "PORT is not valid"),
    ({"HOST": "0.0.0.0", "BATCH_SERVER_API_KEY": ""}, "BATCH_SERVER_API_KEY must be set"),
    ({"HOST": "0.0.0.0", "BATCH_SERVER_API_KEY": "short"}, "BATCH_SERVER_API_KEY must have 16 "),
    ({"HOST": "no.such.host.invalid"}, "HOST: cannot listen"),
    ({"HOST": "x" * 70 + ".invalid"}, "HOST: cannot listen"),
    ({"SSL_CERTFILE": "missing.pem"}, "SSL_CERTFILE and SSL_KEYFILE"),
    ({"SSL_CERTFILE": "missing.pem", "SSL_KEYFILE": "missing.pem"}, "SSL_CERTFILE names"),
    ({"SSL_CERTFILE": __file__, "SSL_KEYFILE": __file__}, "SSL_CERTFILE and SSL_KEYFILE"),
    ({"POSTGRES_URL": "nonsense"}, "POSTGRES_URL is not valid"),
    ({"DATABASE_WAIT_S": "0.3"}, "POSTGRES_URL: no database there"),
    ({"DATA_DIR": "/dev/null/x", "BATCH_SERVER_API_KEY": ""}, "DATA_DIR"),
    ({"DATA_DIR": "/dev/null/x"}, "DATA_DIR: /dev/null/x cannot be written"),
    ({"ALL_PROXY": "ftp://user:hidden-password@h"}, "ALL_PROXY: a proxy cannot be reached by ftp"),
    ({"SSL_CERT_FILE": "missing.pem"}, "SSL_CERT_FILE: missing.pem cannot be used"),
    ({"OPENAI_API_KEY_FILE": "missing"}, "OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set"),
]


def test_a_bad_setting_is_one_line_that_names_it(tmp_path: Path) -> None:
    env = environment("http://127.0.0.1:1/v1", tmp_path, POSTGRES_URL=NOWHERE, PORT=0)
    started = [(start(env | changes), named) for changes, named in WRONG]
    started.append((start(env, "--port", "many"), "PORT is not valid"))
    for process, named in started:
        assert named in refusal(process)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = environment("http://127.0.0.1:1/v1", tmp_path, POSTGRES_URL=NOWHERE, PORT=port)
        assert f"PORT: cannot listen on 127.0.0.1:{port}" in refusal(start(env))


def test_what_is_quickly_wrong_is_said_before_a_database_is_set_up(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    env = environment("http://127.0.0.1:1/v1", folder, POSTGRES_URL="", PORT=0)
    wrong = ({"HOST": "no.such.host.invalid"}, {"SSL_CERTFILE": __file__, "SSL_KEYFILE": __file__})
    for changes in wrong:
        assert next(iter(changes)) in refusal(start(env | changes))
    assert not folder.exists()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_waits_for_its_database_stops_when_told(
    told: signal.Signals, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/db"
        env = environment(
            "http://127.0.0.1:1/v1", tmp_path, POSTGRES_URL=url, PORT=0, DATABASE_WAIT_S=3600
        )
        process = start(env)
        try:
            with silent.accept()[0]:
                process.send_signal(told)
                assert process.communicate(timeout=DEADLINE_S) == ("", "")
        finally:
            process.kill()
        assert process.returncode == 0


@pytest.mark.parametrize(
    "flag", ["--nonsense", "--openai-api-key", "--batch-server-api-key", "--postgres-url"]
)
def test_an_unknown_flag_is_refused_and_secrets_have_none(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", flag, "x"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"unrecognized arguments: {flag} x")


def status_of(url: str, key: str) -> int:
    request = Request(f"{url}/v1/requests", headers={"Authorization": f"Bearer {key}"})
    with urlopen(request, timeout=DEADLINE_S) as reply:
        return int(reply.status)


def test_a_key_is_made_at_the_first_start_shown_once_and_kept(
    tmp_path: Path, database_url: str
) -> None:
    env = environment("http://127.0.0.1:1/v1", tmp_path, POSTGRES_URL=database_url)
    env["BATCH_SERVER_API_KEY"] = ""
    file = tmp_path / "api_key"
    with server_process(env) as first:
        shown = re.findall(r"^BATCH_SERVER_API_KEY=(\S+)", first.log.read_text(), re.MULTILINE)
        assert shown == [file.read_text()]
        assert len(shown[0]) >= 32
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert status_of(first.url, shown[0]) == 200
        assert first.terminate() == 0
    with server_process(env) as second:
        assert shown[0] not in second.log.read_text()
        assert status_of(second.url, shown[0]) == 200
        assert {path.name for path in tmp_path.iterdir()} == {
            "api_key",
            "spool",
            first.log.name,
            second.log.name,
        }
