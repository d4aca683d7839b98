"""A real server process, to be killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from support.deadline import DEADLINE_S
from support.world import KEY


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(base_url: str, data_dir: Path, **changes: Any) -> dict[str, str]:
    """A server's environment, without anything that this machine's own holds about OpenAI."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "BATCH_", "POSTGRES_"))
    }
    given = {
        "OPENAI_API_KEY": "sk-simulated",
        "OPENAI_BASE_URL": base_url,
        "BATCH_SERVER_API_KEY": KEY,
        "DATA_DIR": data_dir,
        "BATCH_LINGER_S": 0.1,
        "BATCH_POLL_S": 0.1,
        "BATCH_SETTLE_S": 0.5,
    }
    return own | {name: str(value) for name, value in (given | changes).items()}


def wait_ready(
    url: str,
    process: subprocess.Popen[Any],
    log: Path,
    within_s: float = DEADLINE_S,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Until the server of `process` says at /ready that it is; an error with its log if not."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urlopen(f"{url}/ready", timeout=5, context=tls):
            return
        time.sleep(0.02)
    raise AssertionError(f"the server is not ready:\n{log.read_text()}")


class ServerProcess:
    """`openaibatching serve` as a process of its own. `tls` trusts its certificate, if any."""

    def __init__(
        self, env: dict[str, str], port: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._tls = tls
        self.log = Path(env["DATA_DIR"]) / f"server-{self.port}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "openaibatching", "serve", "--port", str(self.port)],
                env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Until /ready says so; an error with the server's own log if it does not."""
        wait_ready(self.url, self._process, self.log, tls=self._tls)

    def until_logged(self, event: str, times: int = 1) -> None:
        """Until the server's log has so many lines of this event."""
        deadline = time.monotonic() + DEADLINE_S
        while len(re.findall(rf" {event}\s", self.log.read_text())) < times:
            assert time.monotonic() < deadline, f"no {event}:\n{self.log.read_text()}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self._process.terminate()
        return self._process.wait(timeout=DEADLINE_S)


@contextmanager
def server_process(
    env: dict[str, str], port: int | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[ServerProcess]:
    """A ready server; killed at the end if it still runs."""
    server = ServerProcess(env, port, tls)
    try:
        server.wait_ready()
        yield server
    finally:
        if server._process.poll() is None:
            server.kill()
