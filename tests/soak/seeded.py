"""Seeded worlds: servers that are killed, an OpenAI that misbehaves, and the books at the end.

make soak SEEDS=20            seeds 0 to 19
make soak SEEDS=1 FIRST=17    seed 17 again
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from openaibatching.server.db import migrate
from openaibatching.simulator import Faults, Simulator, body_sha256, running
from support.postgres import Cluster, running_cluster
from support.process import ServerProcess, environment
from support.steps import chat
from support.world import KEY

SERVERS = 2
REQUESTS = 150
KILLS_MAX = 4
DEADLINE_S = 240.0
HEADERS = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Report:
    """What a world did, and what was wrong with it."""

    seed: int
    kills: int = 0
    batches: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def faults(seed: int) -> Faults:
    """This seed's trouble: each kind is there or not, and differently often."""
    dice = random.Random(f"faults {seed}")

    def some(most: float) -> float:
        return dice.choice((0.0, dice.uniform(0.0, most)))

    return Faults(
        seed=seed, lose_create_reply=some(0.4), lose_upload_reply=some(0.4),
        create_500_after_acting=some(0.3), late_create=some(0.2), late_s=0.5,
        error_429=some(0.1), error_500=some(0.1), error_502=some(0.1), error_503=some(0.1),
        html_instead_of_json=some(0.1), reset=some(0.1), polls_fail=some(0.3),
        truncated_download=some(0.3), garbled_download=some(0.3), content_502=some(0.3),
        file_invisible=some(0.3), garbled_line=some(0.05), invalid_utf8_line=some(0.05),
        duplicate_line=some(0.1), unknown_custom_id=some(0.05), missing_line=some(0.05),
        missing_custom_id=some(0.05), status_zero_line=some(0.05), empty_body_line=some(0.05),
        line_500=some(0.1), line_429=some(0.1), request_timeout_line=some(0.05),
        null_file_id=some(0.1), empty_file_id=some(0.5), lying_counts=some(0.5),
        unknown_status=some(0.3), unknown_fields=some(0.5), expire=some(0.2),
        cancel_from_outside=some(0.1), late_upload=some(0.2), upload_500_after_acting=some(0.3),
        missing_fields=some(0.5), polls_blackout=some(0.3), polls_blackout_s=2.0,
        stuck_cancelling=some(1.0), stuck_cancelling_s=2.0,
    )  # fmt: skip


def bodies(seed: int) -> list[dict[str, Any]]:
    """This seed's calls; a few of them are refused, alone or with all their company."""
    dice = random.Random(f"bodies {seed}")
    marks = [
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        " [[simulate:invalid=invalid_request]]",
        " [[simulate:poison]]",
    ]
    return [
        chat(f"world {seed} question {n}{dice.choice(marks) if n % 10 == 0 else ''}",
             model=f"gpt-4o-{n % 2}")
        for n in range(REQUESTS)
    ]  # fmt: skip


def run_world(seed: int, cluster: Cluster, folder: Path) -> Report:
    """Live through one seed and check it."""
    report, dice, started = Report(seed), random.Random(f"world {seed}"), time.monotonic()
    simulator = Simulator(lag=dice.uniform(0.1, 1.0), faults=faults(seed))
    with cluster.database() as url, running(simulator) as base_url:
        asyncio.run(migrate(url, wait_s=10))
        env = environment(
            base_url, folder, POSTGRES_URL=url, BATCH_SETTLE_S=2, BATCH_ATTEMPTS_MAX=8,
            BATCH_REQUESTS_MAX=40,
        )  # fmt: skip
        servers = [ServerProcess(env) for _ in range(SERVERS)]
        try:
            for server in servers:
                server.wait_ready()
            _live(seed, servers, env, url, dice, report)
            _check_answers(servers[0], simulator, report)
        finally:
            for server in servers:
                server.kill()
        _check_books(url, simulator, report)
        report.batches = len(simulator.batches())
    report.seconds = time.monotonic() - started
    return report


def _live(
    seed: int, servers: list[ServerProcess], env: dict[str, str], url: str,
    dice: random.Random, report: Report,
) -> None:  # fmt: skip
    """Call, kill, restart, until everything has ended."""
    calls = bodies(seed)
    kills = dice.randint(1, KILLS_MAX)
    with ThreadPoolExecutor(4) as pool, psycopg.connect(url, autocommit=True) as conn:
        asked = [pool.submit(_ask_until_accepted, servers, body, n) for n, body in enumerate(calls)]
        while report.kills < kills:
            time.sleep(dice.uniform(0.1, 1.5))  # a kill falls anywhere
            place = dice.randrange(SERVERS)
            servers[place].kill()
            report.kills += 1
            servers[place] = ServerProcess(env)
            servers[place].wait_ready()
        for future in asked:
            future.result()
        deadline = time.monotonic() + DEADLINE_S
        while _open(conn) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left := _open(conn):
            report.wrong.append(f"still open after {DEADLINE_S} s: {left}")


def _ask_until_accepted(servers: list[ServerProcess], body: dict[str, Any], n: int) -> None:
    """A caller that tries again elsewhere when a server dies under it."""
    for attempt in range(400):
        server = servers[(n + attempt) % SERVERS]
        try:
            reply = httpx2.post(
                f"{server.url}/v1/chat/completions", json=body, headers=HEADERS, timeout=30,
                verify=False,
            )  # fmt: skip
        except httpx2.TransportError:
            time.sleep(0.05)
            continue
        if reply.status_code != 503:
            return
    raise AssertionError("nobody accepts the call")


def _open(conn: psycopg.Connection[Any]) -> dict[str, int]:
    rows = conn.execute(
        "select 'request ' || state, count(*) from openaibatching.request"
        " where finished_at is null group by 1 union all"
        " select 'batch ' || state, count(*) from openaibatching.batch"
        " where state <> 'closed' group by 1"
    ).fetchall()
    return dict(rows)


def _check_answers(server: ServerProcess, simulator: Simulator, report: Report) -> None:
    """Every call has its own answer, or the failure that its seed gave it."""
    spoiled, executed = simulator.ledger.spoiled, simulator.ledger.counts()
    with httpx2.Client(base_url=server.url, headers=HEADERS, timeout=60, verify=False) as client:
        for body in bodies(report.seed):
            reply = client.post("/v1/chat/completions", json=body).json()
            text = body["messages"][0]["content"]
            report.states[reply["batching"]["status"]] += 1
            if reply["batching"]["status"] == "completed":
                said = reply["choices"][0]["message"]["content"]
                if said != f"You said: {text}":
                    report.wrong.append(f"{text!r} was answered with {said!r}")
            elif "invalid" not in text and "poison" not in text:
                report.wrong.append(
                    f"{text!r} is {reply['batching']['status']}: {json.dumps(reply.get('error'))}"
                )
            sha = body_sha256(body)
            if executed.get(sha, 0) > 1 + spoiled.get(sha, 0):
                report.wrong.append(f"{text!r} was paid {executed[sha]} times")


def _check_books(url: str, simulator: Simulator, report: Report) -> None:
    """Nothing is left upstream, and the counts say what the rows say."""
    if files := simulator.files():
        report.wrong.append(f"left upstream: {[file['filename'] for file in files]}")
    with psycopg.connect(url) as conn:
        for what in ("request", "batch"):
            counted: dict[str, int] = dict(
                conn.execute(
                    "select state, sum(n)::int from openaibatching.tally where what = %s"
                    " group by state having sum(n) <> 0", [what],
                ).fetchall()
            )  # fmt: skip
            statement = f"select state, count(*)::int from openaibatching.{what} group by state"
            rows: dict[str, int] = dict(conn.execute(statement.encode()).fetchall())
            if counted != rows:
                report.wrong.append(f"{what}: the tally says {counted}, the rows say {rows}")


def main(argv: Sequence[str]) -> int:
    """Run the seeds; 1 if any world went wrong."""
    parser = argparse.ArgumentParser(description="Run seeded worlds.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args(argv)
    failed = kills = 0
    with running_cluster("embedded") as cluster:
        for seed in range(args.first, args.first + args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                report = run_world(seed, cluster, Path(folder))
            kills += report.kills
            failed += bool(report.wrong)
            print(f"seed {seed}: {dict(report.states)}, {report.batches} batches,"
                  f" {report.kills} kills, {report.seconds:.0f} s", flush=True)  # fmt: skip
            for line in report.wrong:
                print(f"  WRONG: {line}")
            if report.wrong:
                print(f"  again: make soak SEEDS=1 FIRST={seed}", flush=True)
    print(f"{args.seeds - failed} worlds passed, {failed} failed, {kills} kills")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
