"""Load on a server: many connections, each sending its next call when the last is answered.

`wrk` does it where it is installed (Debian's package of that name): in C, so that it leaves the
machine to the server. Else it is done here, which takes its share of the cores from both sides.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.figure import check

WRK = shutil.which("wrk")
NAME = "wrk" if WRK else "in Python (`wrk` is not installed: it costs both sides more)"

# Lua for wrk: `call(n)` gives (method, path, body) of the n-th call, n counting from `first`.
# With `among` above 0, n is drawn from 1 to `among`, and each call is one of few.
_LUA = """
math.randomseed({seed})
local n = {first}
local function call(n)
  return {method}, {path}, {body}
end
request = function()
  {next}
  local method, path, body = call(n)
  return wrk.format(method, path, {headers}, body)
end
done = function(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
"""


@dataclass(frozen=True)
class Calls:
    """What is sent. `body` has one `{n}`, which is the call's number in ten digits. `cookie` is
    that of the page, for who has signed in."""

    path: str
    body: str | None = None
    key: str = ""
    among: int = 0
    cookie: str = ""

    @property
    def headers(self) -> dict[str, str]:
        if self.cookie:
            return {"Cookie": self.cookie}
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def text(self, n: int) -> str:
        return (self.body or "").replace("{n}", f"{n:010d}")


@dataclass(frozen=True)
class Load:
    """What came of it. Times are those that a caller saw."""

    per_s: float
    p50_ms: float
    p99_ms: float
    answered: int


def run(url: str, calls: Calls, *, connections: int, seconds: float, first: int = 0) -> Load:
    """Load the server. Anything but 2xx, or a broken connection, ends the benchmark."""
    if WRK:
        return _wrk(WRK, url, calls, connections, seconds, first)
    return asyncio.run(_python(url, calls, connections, seconds, first))


def _wrk(wrk: str, url: str, calls: Calls, connections: int, seconds: float, first: int) -> Load:
    body = "nil"
    if calls.body is not None:
        before, after = calls.body.split("{n}")
        body = f"{_lua(before)} .. string.format('%010d', n) .. {_lua(after)}"
    headers = ", ".join(f"[{_lua(k)}]={_lua(v)}" for k, v in calls.headers.items())
    script = _LUA.format(
        first=first,
        seed=random.randrange(2**31),
        method=_lua("GET" if calls.body is None else "POST"),
        path=_lua(calls.path),
        body=body,
        headers=f"{{{headers}}}",
        next=f"n = math.random(1, {calls.among})" if calls.among else "n = n + 1",
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout=30s",
                   "-s", file.name, url]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)$", done.stdout, re.MULTILINE)
    check(found, f"wrk said: {done.stdout}{done.stderr}")
    assert found is not None
    answered, micros, p50, p99, errors = (float(group) for group in found.groups())
    check(errors == 0, f"{errors:.0f} of {answered:.0f} calls failed:\n{done.stdout}")
    return Load(answered / micros * 1e6, p50 / 1000, p99 / 1000, int(answered))


def _lua(text: str) -> str:
    return json.dumps(text)


async def _python(url: str, calls: Calls, connections: int, seconds: float, first: int) -> Load:
    took: list[float] = []
    numbers = iter(range(first + 1, first + 10**9))
    end = time.perf_counter() + seconds

    def raw(n: int) -> bytes:
        body = calls.text(random.randint(1, calls.among) if calls.among else n).encode()
        head = "".join(f"{k}: {v}\r\n" for k, v in calls.headers.items())
        method = "GET" if calls.body is None else "POST"
        return (
            f"{method} {calls.path} HTTP/1.1\r\nHost: bench\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def connection() -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            writer.write(raw(next(numbers)))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
            check(head.split(b" ")[1].startswith(b"2"), repr(head))
            took.append((time.perf_counter() - started) * 1000)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    elapsed = time.perf_counter() - started
    return Load(len(took) / elapsed, percentile(took, 50), percentile(took, 99), len(took))


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
