"""How many calls a second the door takes, beside a server on the same stack that does nothing.

    make bench

Both servers run one after the other, three times, under the same load; only the ratio says
anything about the code, since the machine is the same for both.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from openaibatching.simulator import Simulator, running
from support.process import environment, free_port, server_process
from support.world import KEY

CONNECTIONS = 64
CALLS = 3000
ROUNDS = 3
NO_OP = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def call(http):
    await http.body()
    return Response(b'{}', 202, media_type='application/json')
app = Starlette(routes=[Route('/v1/chat/completions', call, methods=['POST'])])
uvicorn.run(app, port=int(sys.argv[1]), log_level='error', access_log=False)
"""


def request(n: int, round_: int) -> bytes:
    """One call of 1 KB, as it stands on the wire."""
    text = f"round {round_} call {n} ".ljust(900, "x")
    message = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
    body = json.dumps(message).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def connection(port: int, requests: Iterator[bytes], statuses: list[bytes]) -> None:
    """Send what is left of `requests`, one after the other, over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for raw in requests:
        writer.write(raw)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        statuses.append(head.split(b" ")[1])
    writer.close()


async def load(port: int, round_: int) -> float:
    """Calls a second over all connections."""
    requests = iter([request(n, round_) for n in range(CALLS)])
    statuses: list[bytes] = []
    started = time.perf_counter()
    await asyncio.gather(*(connection(port, requests, statuses) for _ in range(CONNECTIONS)))
    seconds = time.perf_counter() - started
    assert len(statuses) == CALLS
    assert set(statuses) <= {b"200", b"202"}, set(statuses)
    return CALLS / seconds


@contextmanager
def no_op() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", NO_OP, str(port)])
    try:
        while True:
            try:
                asyncio.run(connection(port, iter([request(0, 0)]), []))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    figures: dict[str, list[float]] = {"no-op": [], "new call": [], "repeated call": []}
    with tempfile.TemporaryDirectory() as folder, running(Simulator()) as base_url:
        env = environment(base_url, Path(folder), BATCH_LINGER_S=3600, BATCH_POLL_S=30,
                          BATCH_SETTLE_S=60)  # fmt: skip
        with server_process(env) as server, no_op() as port:
            for round_ in range(ROUNDS):
                figures["no-op"].append(asyncio.run(load(port, round_)))
                figures["new call"].append(asyncio.run(load(server.port, round_)))
                figures["repeated call"].append(asyncio.run(load(server.port, round_)))
    base = statistics.median(figures["no-op"])
    print(f"{CALLS} calls of 1 KB over {CONNECTIONS} connections, median of {ROUNDS};"
          f" Python {platform.python_version()}, {os.cpu_count()} cores,"
          " embedded PostgreSQL and load generator on the same machine")  # fmt: skip
    print("| server | calls/s | against the no-op server |\n|---|---|---|")
    for name, rates in figures.items():
        rate = statistics.median(rates)
        print(f"| {name} | {rate:,.0f} | {rate / base:.2f} |")


if __name__ == "__main__":
    main()
