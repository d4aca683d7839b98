"""The server's peak memory for a batch of 200 MB, out and in, and its door's p99 meanwhile.

The calls come through the bulk door, the file goes out to the simulator, and the answers, which
repeat the questions, come back as large. A probe asks the door all the time, at a steady pace.
The simulator and the sender run at a low priority: they would be on other machines.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from benchmarks import load, stack
from benchmarks.figure import Row, Sizes, check

LINES, LINE_BYTES = 50_000, 4000
PROBES_PER_S, CALLERS = 50, 25
QUIET_S = 20.0
PAD = 3800


def measure(sizes: Sizes) -> list[Row]:
    lines = 1000 if sizes.short else LINES
    settings = {"BATCH_LINGER_S": 3600, "BATCH_POLL_S": 1}
    settings["BATCH_REQUESTS_MAX"] = lines
    with (
        stack.simulator(stack.ELSEWHERE) as openai,
        stack.server(openai.base_url, **settings) as server,
        ThreadPoolExecutor(1) as threads,
    ):
        quiet_s = 1.0 if sizes.short else QUIET_S
        quiet_ms = [_quiet_ms(server.url, quiet_s)]
        before = _peak_mb(server.pid)
        ended = Event()
        probing = threads.submit(_probe, server.url, ended.is_set)
        try:
            started = time.perf_counter()
            _send(server.url, lines)
            seconds = time.perf_counter() - started
        finally:
            ended.set()
        busy = probing.result()
        peak = _peak_mb(server.pid)
        quiet_ms.append(_quiet_ms(server.url, quiet_s))
        sent = openai.requests()
    check(sent.get("POST /batches") == 1, f"one batch and not {sent.get('POST /batches')}")
    busy_ms = load.percentile(busy, 99)
    size = f"{lines * LINE_BYTES / 1e6:,.0f} MB"
    return [
        Row(f"server's peak memory in MB, batch of {size} out and in", "-", peak, 200, False,
            f"{before:.0f} MB before; {seconds:.0f} s"),
        Row("the door's p99 while that runs", "its quiet p99", busy_ms / min(quiet_ms), 3, False,
            f"{busy_ms:.0f} ms; {min(quiet_ms):.0f} ms; {PROBES_PER_S} calls/s"),
    ]  # fmt: skip


def _quiet_ms(url: str, seconds: float) -> float:
    """The p99 with nothing else to do. Measured before and after, and the lower one counts: the
    disk's own pauses would flatter us."""
    until = time.monotonic() + seconds
    return load.percentile(_probe(url, lambda: time.monotonic() > until), 99)


def _peak_mb(pid: int) -> float:
    """The most that the process ever had in memory (proc_pid_status(5), VmHWM)."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        raise SystemExit("memory is measured on Linux only")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _probe(url: str, ended: Callable[[], bool]) -> list[float]:
    """Milliseconds that each of a steady stream of new calls took, from when it was due: a server
    that stands still is seen by all that come meanwhile. Many callers, none of them in a hurry,
    so that a call does not wait for the one before it."""
    with ThreadPoolExecutor(CALLERS) as threads:
        callers = [threads.submit(_caller, url, ended, n / PROBES_PER_S) for n in range(CALLERS)]
        return [ms for caller in callers for ms in caller.result()]


def _caller(url: str, ended: Callable[[], bool], first_s: float) -> list[float]:
    took: list[float] = []
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    due = time.perf_counter() + first_s
    headers = {"Authorization": f"Bearer {stack.KEY}", "Content-Type": "application/json"}
    while not ended():
        time.sleep(max(0.0, due - time.perf_counter()))
        body = json.dumps({"model": "probe", "input": f"{first_s} {time.perf_counter_ns()}"})
        connection.request("POST", "/v1/responses", body, headers)
        reply = connection.getresponse()
        reply.read()
        check(reply.status == 202, f"a probe was answered {reply.status}")
        took.append((time.perf_counter() - due) * 1000)
        due += CALLERS / PROBES_PER_S
    connection.close()
    return took


def _send(url: str, lines: int) -> None:
    """All lines through the bulk door, until the last is answered; in a process of its own."""
    code = "import sys; from benchmarks.memory import send; send(sys.argv[1], int(sys.argv[2]))"
    with stack.spawned([sys.executable, "-c", code, url, str(lines)], stack.ELSEWHERE) as sender:
        check(sender.wait() == 0, "the sender failed")


def send(url: str, lines: int) -> None:
    """Send, read, and count what is answered."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=900)
    headers = {
        "Authorization": f"Bearer {stack.KEY}",
        "Content-Type": "application/jsonl",
        "Prefer": "wait=600, order=finished",
        "Transfer-Encoding": "chunked",
    }
    connection.request("POST", "/v1/requests", _lines(lines), headers, encode_chunked=True)
    reply = connection.getresponse()
    answered = done = 0
    for line in reply:
        answered += 1
        done += b'"status_code":200' in line[:200]
    check(answered == done == lines, f"{done} of {answered} lines are done")


def _lines(lines: int) -> Iterator[bytes]:
    for first in range(0, lines, 250):
        yield b"".join(_line(n) for n in range(first, min(lines, first + 250)))


def _line(n: int) -> bytes:
    """As long in the batch file as OpenAI's limit lets 50,000 of them be."""
    text = f"call {n:06d} " + "word " * (PAD // len("word "))
    body = {"messages": [{"content": text, "role": "user"}], "model": "gpt-4o"}
    line = {"custom_id": f"{n:06d}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line).encode() + b"\n"
