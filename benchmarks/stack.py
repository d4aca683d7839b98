"""The processes of a benchmark: database, simulator, server, a server that does nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks import profile
from openaibatching.server.database.embedded import EmbeddedPostgres
from support.deadline import DEADLINE_S
from support.postgres import Cluster
from support.process import ServerProcess, environment, free_port, server_process
from support.world import KEY

__all__ = ["KEY", "Simulated", "cluster", "no_op", "server", "simulator", "spawned"]

ELSEWHERE = 15
"""How nice those processes are that would run on other machines: OpenAI's side, and clients."""

NO_OP = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def call(http):
    await http.body()
    return Response(b'{}', 202, media_type='application/json')
app = Starlette(routes=[Route('/v1/chat/completions', call, methods=['POST'])])
uvicorn.run(app, port=int(sys.argv[1]), log_level='error', access_log=False, lifespan='off')
"""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """The embedded PostgreSQL as a server has it, commits to disk included; thrown away."""
    folder = Path(tempfile.mkdtemp(prefix="openaibatching-bench-"))
    postgres = EmbeddedPostgres(folder)
    try:
        postgres.start()
        yield Cluster(postgres.url, postgres)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server(base_url: str, **changes: Any) -> Iterator[ServerProcess]:
    """A ready server with a data folder of its own; `changes` are settings."""
    with tempfile.TemporaryDirectory(prefix="openaibatching-bench-") as folder:
        settings: dict[str, Any] = {
            "BATCH_LINGER_S": 3600,
            "BATCH_POLL_S": 1,
            "BATCH_SETTLE_S": 60,
            "TENANT_RATE_MAX": 1_000_000,
        }
        env = environment(base_url, Path(folder), **{**settings, **changes})
        with server_process(env) as process:
            try:
                with profile.attached(process.pid):
                    yield process
            finally:
                process.terminate()  # so that an embedded PostgreSQL ends as well


@dataclass(frozen=True)
class Simulated:
    """OpenAI's side, in a process of its own."""

    base_url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """What it has computed so far, in seconds. It computes in one thread at a time."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    def requests(self) -> dict[str, int]:
        """How often each route was called."""
        with urlopen(self.base_url.removesuffix("/v1") + "/_simulator/requests") as reply:
            counts: dict[str, int] = json.load(reply)
        return counts


@contextmanager
def simulator(nice: int = 0) -> Iterator[Simulated]:
    """A simulator that is done with a batch as soon as it has computed the answers."""
    command = [sys.executable, "-m", "openaibatching", "simulate", "--port", "0", "--lag", "0"]
    with spawned(command, nice, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().decode().strip()
        yield Simulated(base_url, psutil.Process(process.pid))


@contextmanager
def no_op() -> Iterator[str]:
    """A server on the same stack that does nothing; its URL."""
    port = free_port()
    with spawned([sys.executable, "-c", NO_OP, str(port)]):
        url = f"http://127.0.0.1:{port}"
        wait_for(Request(f"{url}/v1/chat/completions", b"{}", method="POST"))
        yield url


@contextmanager
def spawned(command: list[str], nice: int = 0, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, nice)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(request: Request | str) -> None:
    """Until something answers there."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(request, timeout=5):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers at {request}")
