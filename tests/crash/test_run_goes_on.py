"""`openaibatching run` is killed, or its server is: the same command goes on, or it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Upstreamed
from openaibatching.simulator import Gate
from support.deadline import DEADLINE_S
from support.process import ServerProcess, environment, server_process
from support.run_command import Run, input_line, read_jsonl, said, write_jsonl
from support.world import KEY

LINES, ANSWERED = 40, 15
ANSWERS = {f"line-{n}": f"You said: question {n}" for n in range(LINES)}

pytestmark = pytest.mark.parametrize("cluster", ["embedded"], indirect=True)


@dataclass(frozen=True)
class Halfway:
    """A run with a part of its answers written; the batch of the others is held at a gate."""

    env: dict[str, str]
    server: ServerProcess
    upstream: Upstreamed
    gate: Gate
    command: tuple[str, str, Path, str, Path]
    run: Run

    @property
    def out(self) -> Path:
        return self.command[-1]


@contextmanager
def halfway_there(database_url: str, upstream: Upstreamed, folder: Path) -> Iterator[Halfway]:
    env = environment(upstream.base_url, folder, POSTGRES_URL=database_url)
    lines = [input_line(f"line-{n}", f"question {n}") for n in range(LINES)]
    first, all_ = write_jsonl(folder / "1", lines[:ANSWERED]), write_jsonl(folder / "2", lines)
    out = folder / "out.jsonl"
    with server_process(env) as server:
        assert Run(server.url, KEY, first, "-o", folder / "first").end()[0] == 0
        gate = upstream.simulator.gate("POST /batches", when="before")
        command = (server.url, KEY, all_, "-o", out)
        run = Run(*command)
        run.until(lambda: len(read_jsonl(out)) == ANSWERED)
        gate.wait_reached(DEADLINE_S)
        try:
            yield Halfway(env, server, upstream, gate, command, run)
        finally:
            run.process.kill()
            gate.cut()


@pytest.fixture
def halfway(database_url: str, upstream: Upstreamed, tmp_path: Path) -> Iterator[Halfway]:
    with halfway_there(database_url, upstream, tmp_path) as halfway:
        yield halfway


def check(halfway: Halfway) -> None:
    """Every line is answered with its own answer, once, and was executed once."""
    assert said(halfway.out) == ANSWERS
    ledger = halfway.upstream.simulator.ledger
    assert len(ledger.counts()) == LINES
    assert set(ledger.counts().values()) == {1}


def test_a_run_that_is_killed_goes_on_from_its_output(halfway: Halfway) -> None:
    halfway.run.process.kill()
    halfway.run.process.communicate()
    with halfway.out.open("ab") as out:
        out.write(read_line(halfway.out)[:99])  # half a line, as a kill or a full disk leaves it
    again = Run(*halfway.command)
    halfway.gate.release()
    code, told, progress = again.end()
    assert (code, told) == (0, f"All {LINES} lines succeeded: {halfway.out}\n"), progress
    check(halfway)


def test_a_run_waits_for_a_server_that_is_killed(halfway: Halfway) -> None:
    halfway.server.kill()
    halfway.gate.cut()
    with server_process(halfway.env, halfway.server.port):
        code, told, progress = halfway.run.end()
    assert (code, told) == (0, f"All {LINES} lines succeeded: {halfway.out}\n"), progress
    assert "trying again" in progress
    assert "The batch server answers again" in progress
    check(halfway)


def read_line(path: Path) -> bytes:
    return path.read_bytes().split(b"\n")[0]
