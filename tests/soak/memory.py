"""Waves of calls through one server: its memory stays where it was."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx2
import psutil

from openaibatching.simulator import Simulator, running
from soak.worlds import Report
from support.postgres import Cluster
from support.process import environment, server_process
from support.steps import chat
from support.world import KEY

WARM_UP_WAVES, LAST_WAVES = 4, 3
GROWTH_MAX = 0.1
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/jsonl"}
WAIT_S = 300


def run_world(seed: int, cluster: Cluster, folder: Path, *, waves: int, calls: int) -> Report:
    """Send `waves` times `calls` calls, each wave when the last one has ended, and compare."""
    report, started = Report("memory", seed), time.monotonic()
    simulator = Simulator()
    with cluster.database() as url, running(simulator) as base_url:
        env = environment(base_url, folder, POSTGRES_URL=url)
        with server_process(env) as server:
            process, sizes = psutil.Process(server.pid), []
            for wave in range(waves):
                report.states["completed"] += _wave(server.url, seed, wave, calls)
                sizes.append(process.memory_info().rss / 1e6)
        if set(simulator.ledger.counts().values()) != {1}:
            report.wrong.append("something was paid twice")
        report.batches = len(simulator.batches())
    # The least of the last ones: the allocator comes and goes, a leak only comes.
    warm, last = max(sizes[:WARM_UP_WAVES]), min(sizes[-LAST_WAVES:])
    report.more["MB"] = f"{warm:.0f} → {last:.0f}"
    if report.states["completed"] != waves * calls:
        report.wrong.append(f"{report.states['completed']} of {waves * calls} are completed")
    if last > warm * (1 + GROWTH_MAX):
        report.wrong.append(f"memory grew from {warm:.0f} to {last:.0f} MB: {sizes}")
    report.seconds = time.monotonic() - started
    return report


def _wave(url: str, seed: int, wave: int, calls: int) -> int:
    """How many of the wave's calls were answered."""
    lines = [
        {
            "custom_id": str(n), "method": "POST", "url": "/v1/chat/completions",
            "body": chat(f"memory {seed} wave {wave} question {n} " + "word " * 100),
        }
        for n in range(calls)
    ]  # fmt: skip
    reply = httpx2.post(
        f"{url}/v1/requests", content="\n".join(map(json.dumps, lines)),
        headers=HEADERS | {"Prefer": f"wait={WAIT_S}"}, timeout=WAIT_S + 60, verify=False,
    )  # fmt: skip
    answers = [json.loads(line) for line in reply.content.split(b"\n") if line]
    return sum(answer["response"]["status_code"] == 200 for answer in answers)
