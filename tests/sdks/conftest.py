"""A batch server for other people's SDKs: another process, which these know by its URL and a key.

So a test runs wherever pytest and its SDK are, and nothing of ours: `make test-sdks`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest

from sdks.server import PAGE, Printed, Server, control
from support.readme import ADDRESS, examples
from support.source import ROOT


@pytest.fixture(scope="session")
def served() -> Iterator[dict[str, str]]:
    """The URLs of the servers."""
    with subprocess.Popen(
        [ROOT / ".venv" / "bin" / "python", "-m", "clients.served"],
        cwd=ROOT / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        line = process.stdout.readline()
        assert line, "the servers did not start: stderr says why"
        yield json.loads(line)
        process.stdin.close()


@pytest.fixture
def server(served: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    key = control(f"{served['control']}/tenant")
    monkeypatch.setenv("BATCH_SERVER_API_KEY", key)
    yield Server(served["prompt"], key, served["control"])
    control(f"{served['control']}/rest")


@pytest.fixture
def printed(server: Server) -> Printed:
    """Runs the examples of docs/any-sdk.md below a heading, up to the n-th, and gives what that
    one prints; only the address is this test's own."""

    def run(heading: str, number: int = 0) -> str:
        names: dict[str, Any] = {}
        for code in examples(heading, PAGE)[: number + 1]:
            with redirect_stdout(StringIO()) as output:
                exec(compile(code.replace(ADDRESS, server.url), PAGE.name, "exec"), names)
        return output.getvalue()

    return run
