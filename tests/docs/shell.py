"""A bash that a page's commands are typed into, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from support.deadline import DEADLINE_S

# Commands that go on until they are stopped.
SERVERS = ("openaibatching serve", "openaibatching simulate")


class Shell:
    """Variables, files and the folder stay from one command to the next."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> tuple[int, str]:
        """Its exit code and all that it said."""
        assert self._bash.stdin
        assert self._bash.stdout
        mark = f"ended-{uuid.uuid4().hex}"
        # A command that hangs takes the whole shell with it, so that the reading below ends.
        watch = threading.Timer(DEADLINE_S, self.close)
        watch.start()
        try:
            # Braces, and not a subshell, in which variables would be lost.
            self._bash.stdin.write(f"{{\n{command}\n}} </dev/null\nprintf '{mark} %s\\n' $?\n")
            self._bash.stdin.flush()
            said = ""
            for line in self._bash.stdout:
                before, found, code = line.partition(f"{mark} ")
                said += before
                if found:
                    return int(code), said
        finally:
            watch.cancel()
        raise AssertionError(f"the shell ended in {command!r}:\n{said}")

    def start(self, command: str, ready: Callable[[str], bool]) -> None:
        """Start what does not end, and wait until what it has said is as it should be."""
        log = self._folder / f"log-{uuid.uuid4().hex}"
        self.run(f"{{ {command}\n}} >{log} 2>&1 &")
        deadline = time.monotonic() + DEADLINE_S
        while not (log.exists() and ready(log.read_text("utf-8"))):
            if time.monotonic() > deadline:
                raise AssertionError(f"{command!r} said:\n{log.read_text('utf-8')}")
            time.sleep(0.05)

    def close(self) -> None:
        """End the shell and what it has started: all of it is in a group of its own."""
        with self._bash:  # which closes the pipes
            self._end()

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._bash.pid, number)
            except ProcessLookupError:
                break
            self._all_gone(within_s=DEADLINE_S)

    def _all_gone(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self._bash.poll()
            try:
                os.killpg(self._bash.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def is_server(command: str) -> bool:
    """Whether the command goes on until it is stopped."""
    return any(server in command for server in SERVERS)
