"""The image's health check, beside a server and beside what is none."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import anyio

from openaibatching.server.app import Service
from support.postgres import ONE_KIND
from support.source import ROOT


def check(port: int) -> subprocess.CompletedProcess[str]:
    """Run it as the image does, for a server on this port."""
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / "healthcheck.py"],
        env={"HOST": "127.0.0.1", "PORT": str(port)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@ONE_KIND
async def test_a_server_is_healthy(service: Service) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    done = await anyio.to_thread.run_sync(check, port)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_does_not_speak_http_is_not_and_that_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"no HTTP at all\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        done = check(listening.getsockname()[1])
        answering.join()
    assert done.returncode == 1
    assert done.stderr.startswith("no answer: ")
    assert done.stderr.count("\n") == 1


def test_where_nothing_listens_it_says_so_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    done = check(port)
    assert done.returncode == 1
    assert done.stderr.startswith("no answer: ConnectionRefusedError")
    assert done.stderr.count("\n") == 1
