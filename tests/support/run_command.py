"""`openaibatching run` as a process of its own, and its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from support.deadline import DEADLINE_S
from support.steps import chat

COMMAND = (sys.executable, "-m", "openaibatching", "run")


def input_line(custom_id: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions",
        "body": chat(text), **more,
    }  # fmt: skip


def write_jsonl(path: Path, lines: Iterable[dict[str, Any] | bytes]) -> Path:
    """A file of JSON lines; bytes stand for themselves."""
    path.write_bytes(
        b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in lines
        )
    )
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may not be there yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def said(path: Path) -> dict[str, str]:
    """{custom_id: text} of the answers in an output file; each stands there once."""
    lines = read_jsonl(path)
    texts = {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"]
        for line in lines
    }
    assert len(texts) == len(lines)
    return texts


def settings(url: str, key: str) -> dict[str, str]:
    """The environment of a run, without anything of this machine's about OpenAI."""
    own = {n: v for n, v in os.environ.items() if not n.startswith(("OPENAI_", "BATCH_"))}
    return own | {"BATCH_SERVER_URL": url, "BATCH_SERVER_API_KEY": key}


class Run:
    """A run that goes on beside the test."""

    def __init__(self, url: str, key: str, *arguments: str | Path, stderr: int | None = None):
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], env=settings(url, key), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr or subprocess.PIPE,
            # As in a terminal, whatever the tests were started from.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def until(self, condition: Callable[[], object]) -> None:
        """Until the condition holds, which it must do while the run goes on."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"ended {ended}: {self.process.communicate()}")
            time.sleep(0.02)

    def end(self) -> tuple[int, str, str]:
        """Its exit code, and what it said on stdout and stderr, once it has ended."""
        try:
            out, err = self.process.communicate(timeout=DEADLINE_S)
        finally:
            self.process.kill()
        return self.process.returncode, out, err
