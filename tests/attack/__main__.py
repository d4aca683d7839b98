"""Every attack at once on one server with two tenants, and what the honest one noticed of it.

make attack               for a minute
make attack SECONDS=10    for ten seconds
make attack ATTACKS="no_hello bad_lines"    only these

The attackers and the simulated OpenAI run at the lowest priority of the system (nice 19). They are
other machines, so the processor time that they take here is nothing that the server has to do with.
The server has its own defaults, not the short times of the other tests.

The exit code is 1 if the honest caller was refused, if its calls took more than RATIO_MAX times as
long as in a quiet time before (p99, in the same run), or if what must not happen has happened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attack.greedy import GREEDY
from attack.strangers import STRANGERS, Attack
from attack.target import Target
from openaibatching.server.database.migrations import migrate
from support.certificates import certified, trusting
from support.postgres import running_cluster
from support.process import ServerProcess, environment

HONEST, GREEDY_KEY = "key-of-the-honest-tenant", "key-of-the-greedy-tenant"
RATIO_MAX = 3.0
ELSEWHERE = 19
"""How nice the attackers are: they are other machines, and only here take the server's cores."""
ALL = (*STRANGERS, *GREEDY)
NAMES = [attack.__name__ for attack in ALL]


def main(argv: Sequence[str]) -> int:
    """Attack, and print what came of it."""
    parser = argparse.ArgumentParser(prog="make attack", description="Every attack at once.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--attacks", nargs="*", choices=NAMES)
    options = parser.parse_args(argv)
    attacks = [attack for attack in ALL if attack.__name__ in (options.attacks or NAMES)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(running_cluster("embedded"))
        upstream = stack.enter_context(_openai())
        database = stack.enter_context(cluster.database())
        asyncio.run(migrate(database, wait_s=10))
        ca = str(folder / "ca.pem")
        files = {name.upper(): path for name, path in certified(folder).items()}
        env = environment(
            upstream, folder, POSTGRES_URL=database,
            OPENAI_WEBHOOK_SECRET="whsec_c2VjcmV0LXNlY3JldA",
            BATCH_SERVER_API_KEY=f"honest={HONEST},greedy={GREEDY_KEY}", **files,
        )  # fmt: skip
        for hasty in ("BATCH_LINGER_S", "BATCH_POLL_S", "BATCH_SETTLE_S"):
            del env[hasty]
        tls = trusting(folder)
        server = ServerProcess(env, tls=tls)
        stack.callback(server.kill)
        server.wait_ready()
        target = Target(server.url, GREEDY_KEY, tls)
        return asyncio.run(_run(target, ca, options.seconds, attacks))


@contextmanager
def _openai() -> Iterator[str]:
    """A simulator that answers a batch after a second; its base URL."""
    command = [sys.executable, "-m", "openaibatching", "simulate", "--port", "0", "--lag", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, ELSEWHERE)
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.communicate()


async def _run(target: Target, ca: str, seconds: float, chosen: Sequence[Attack]) -> int:
    quiet = await _told(await _honest(target.url, ca, seconds / 3))
    honest = await _honest(target.url, ca, seconds)
    os.setpriority(os.PRIO_PROCESS, 0, ELSEWHERE)
    attacks = [asyncio.create_task(attack(target)) for attack in chosen]
    attacked = await _told(honest)
    for attack in attacks:
        attack.cancel()
    for outcome in await asyncio.gather(*attacks, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError):
            target.wrong(f"an attack ended by itself: {outcome!r}")
    return _report(target, quiet, attacked)


async def _honest(url: str, ca: str, seconds: float) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "attack.honest", url, HONEST, ca, str(seconds),
        stdout=subprocess.PIPE,
    )  # fmt: skip


async def _told(honest: Process) -> dict[str, Any]:
    said, _ = await honest.communicate()
    found: dict[str, Any] = json.loads(said)
    return found


def _report(target: Target, quiet: dict[str, Any], attacked: dict[str, Any]) -> int:
    for name, outcomes in target.tally.items():
        print(f"{name:20}", ", ".join(f"{what}: {n:,}" for what, n in outcomes.most_common()))
    for name, found in (("quiet", quiet), ("attacked", attacked)):
        p50, p99 = (_percentile(found["took"], share) for share in (0.5, 0.99))
        calls, refused = len(found["took"]), found["refused"] or "none"
        print(f"honest, {name:9} {calls:6,} calls, p50 {p50:.0f} ms, p99 {p99:.0f} ms,", end=" ")
        print(f"refused: {refused}")
    ratio = _percentile(attacked["took"], 0.99) / _percentile(quiet["took"], 0.99)
    print(
        f"p99 {ratio:.1f} times that of the quiet time, at most {RATIO_MAX:g} is wanted", end="; "
    )
    print(f"the attackers ran at nice {ELSEWHERE}, like other machines")
    for what, times in target.wrongs.items():
        print(f"WRONG: {what} ({times} times)")
    return int(ratio > RATIO_MAX or bool(attacked["refused"]) or bool(target.wrongs))


def _percentile(sorted_s: Sequence[float], share: float) -> float:
    """Milliseconds."""
    return sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * share))] * 1000


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
