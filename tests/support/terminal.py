"""A command on a terminal of its own, and what it has drawn there."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from support.deadline import DEADLINE_S

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`python arguments…` on a terminal of so many columns."""

    def __init__(self, arguments: Sequence[str], env: dict[str, str], columns: int = 160) -> None:
        self._ours, theirs = pty.openpty()
        self._parts: list[bytes] = []
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
            env=env | {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "60"},
            # As in a terminal, whatever the tests were started from.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(theirs)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 65_536):
                self._parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            return

    def text(self) -> str:
        """All that was drawn so far, without colours and movements."""
        return ESCAPES.sub("", b"".join(self._parts).decode(errors="replace"))

    def until(self, text: str) -> None:
        """Until this was drawn."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"no {text!r} in:\n{self.text()}")
            time.sleep(0.02)

    def end(self) -> int:
        """Its exit code, once it has ended."""
        try:
            code = self.process.wait(timeout=DEADLINE_S)
        finally:
            self.process.kill()
            self._reading.join()
            os.close(self._ours)
        return code
