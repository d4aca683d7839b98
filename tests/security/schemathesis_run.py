"""Schemathesis against a running server's own OpenAPI document.

make fuzz CASES=100           so many cases an operation
make fuzz CASES=100 SEED=17   others
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openaibatching.server.database.migrations import migrate
from openaibatching.simulator import Simulator, running
from support.postgres import Cluster, running_cluster
from support.process import ServerProcess, environment, server_process
from support.world import KEY

RUN_S_MAX = 3600
HOOKS = {
    "SCHEMATHESIS_HOOKS": "security.schemathesis_hooks",
    "PYTHONPATH": str(Path(__file__).parents[1]),
}
# Texts that no server may answer or log: a mistake of ours, as Python or a library would say it.
MISTAKES = re.compile(r"Traceback|handler_failed|storing_failed|step_failed|server_failed")


@dataclass(frozen=True)
class Report:
    """What Schemathesis said, how many cases it ran, and what of the server's log is a mistake."""

    passed: bool
    cases: int
    text: str
    mistakes: list[str]


@contextmanager
def server(cluster: Cluster, folder: Path) -> Iterator[ServerProcess]:
    """A server process on a database of its own, whose calls are answered at once."""
    with cluster.database() as url, running(Simulator(lag=0.0)) as base_url:
        asyncio.run(migrate(url, wait_s=10))
        # Nothing waits for long: a case is one of thousands.
        env = environment(base_url, folder, POSTGRES_URL=url, WAIT_S_MAX=0.2, LOG_LEVEL="debug")
        with server_process(env) as process:
            yield process


def run(process: ServerProcess, cases: int, seed: int) -> Report:
    """Try every operation of the document with `cases` cases, always the same ones for a seed."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file", str(Path(__file__).with_name("schemathesis.toml")),
        "run", f"{process.url}/openapi.json",
        "--header", f"Authorization: Bearer {KEY}",
        "--max-examples", str(cases),
        "--seed", str(seed),
        "--no-color",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | HOOKS, cwd=process.log.parent,  # where it keeps its notes
        capture_output=True, text=True, check=False, timeout=RUN_S_MAX,
    )  # fmt: skip
    text = done.stdout + done.stderr
    found = re.search(r"(\d+) generated", text)
    mistakes = [line for line in process.log.read_text().splitlines() if MISTAKES.search(line)]
    return Report(done.returncode == 0, int(found[1]) if found else 0, text, mistakes)


def main(argv: Sequence[str]) -> int:
    """Run it once; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="Schemathesis against our own document.")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with (
        running_cluster("embedded") as cluster,
        tempfile.TemporaryDirectory() as folder,
        server(cluster, Path(folder)) as process,
    ):
        report = run(process, args.cases, args.seed)
    print(report.text)
    print(*report.mistakes, sep="\n")
    print(f"{report.cases} cases, {len(report.mistakes)} mistakes in the log")
    return 0 if report.passed and not report.mistakes else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
