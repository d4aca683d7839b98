"""Where the server's processor time goes, as py-spy sees it from outside (`make bench PROFILE=1`).

Only samples that hold the interpreter's lock count: a thread that waits costs nothing. What a
profiled run says of speed is worth little, since the profiler takes its share of the machine.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import BIN

PER_S = 200
OWN_LEAST, TOTAL_LEAST = 0.03, 0.05
"""The least shares that are told: by a function itself, and with all that it calls."""
wanted = False
"""Set by the command line."""


@contextmanager
def attached(pid: int) -> Iterator[None]:
    """Sample the process, and tell at the end what it did; nothing of it unless `wanted`."""
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder, "stacks")
        command = [str(BIN / "py-spy"), "record", "--gil", "--rate", str(PER_S), "--format", "raw",
                   "--output", str(stacks), "--pid", str(pid)]  # fmt: skip
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.wait(timeout=60)
        if not stacks.exists():
            print("  no profile: py-spy may not look at other processes here", file=sys.stderr)
            return
        for line in told(stacks.read_text("utf-8").splitlines()):
            print(f"  {line}", file=sys.stderr)


def told(stacks: list[str]) -> Iterator[str]:
    """The shares of py-spy's raw lines, each a stack from the outside in and how often it was."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks:
        stack, _, times = line.rpartition(" ")
        functions = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        own[functions[-1]] += int(times)
        for function in set(functions):
            total[function] += int(times)
    samples = sum(own.values())
    for words, counts, least in (("by itself", own, OWN_LEAST), ("in all", total, TOTAL_LEAST)):
        for function, count in counts.most_common():
            # The interpreter's and the event loop's frames are around everything.
            if least * samples <= count < 0.9 * samples:
                yield f"{count / samples:4.0%} {words}: {function}"
