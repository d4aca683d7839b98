"""Kills and pauses: at seeded points, on seeded kinds of PostgreSQL, with seeded numbers of calls.

make soak SEEDS=0 KILLS=200 PAUSES=20       kills 0 to 199, then pauses 0 to 19
make soak SEEDS=0 KILLS=1 PAUSES=0 FIRST=17 kill 17 again
make soak SEEDS=0 KILLS=0 PAUSES=1 FIRST=5  pause 5 again
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.hands import ASKED_OF_OTHERS, CALLS_EACH, HANDS, three_servers
from support.killing import KINDS, world_of
from support.points import POINTS, goes_on
from support.postgres import Cluster, running_cluster, system_binaries

CALLS = (1, 2, 20, 150)
"""How many: from a batch of one to several batches."""


@dataclass
class Report:
    """A kill or a pause, and what was wrong afterwards."""

    name: str
    seed: int
    point: str = ""
    kind: str = ""
    calls: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = f"{self.point} ({self.kind}), {self.calls} calls"
        return f"{self.name} {self.seed}: {what}, {self.seconds:.0f} s"


def kill(seed: int, cluster: Cluster, folder: Path) -> Report:
    """Kill once and look. Each len(POINTS) seeds in a row are a kill at every point."""
    dice = random.Random(f"kill {seed}")
    report, started = Report("kill", seed), time.monotonic()
    turn, place = divmod(seed, len(POINTS))
    report.point = random.Random(f"turn {turn}").sample(list(POINTS), len(POINTS))[place]
    report.kind = dice.choice(KINDS)
    # Below 150 a batch is full: then the calls are several batches, two of them at a time.
    most = dice.choice((100, 50_000))
    with world_of(report.kind, cluster, folder, BATCH_REQUESTS_MAX=most) as world:
        world.texts = [f"kill {seed} question {n}" for n in range(dice.choice(CALLS))]
        try:
            POINTS[report.point](world)
            report.wrong = goes_on(world)
        except (AssertionError, TimeoutError) as error:
            report.wrong = [str(error) or repr(error)]
        report.calls = len(world.texts)
    report.seconds = time.monotonic() - started
    return report


def pause(seed: int, cluster: Cluster, folder: Path) -> Report:
    """Pause a server beyond its lease, with some of its hands full, and look."""
    dice = random.Random(f"pause {seed}")
    report, started = Report("pause", seed, kind="external"), time.monotonic()
    hands = [name for name in HANDS if dice.random() < 0.5] or [dice.choice(list(HANDS))]
    late = dice.random() < 0.5
    report.point = ", ".join(hands) + (", never arriving" if late else "")
    with world_of("external", cluster, folder) as world:
        try:
            report.wrong = three_servers(world, hands, late=late)
        except (AssertionError, TimeoutError) as error:
            report.wrong = [str(error) or repr(error)]
        report.calls = ASKED_OF_OTHERS + len(hands) * CALLS_EACH
    report.seconds = time.monotonic() - started
    return report


def main(argv: Sequence[str]) -> int:
    """Kill and pause, again and again; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description="Kill and pause servers at seeded points.")
    parser.add_argument("--kills", type=int, default=len(POINTS))
    parser.add_argument("--pauses", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args(argv)
    blows = [(kill, n) for n in range(args.kills)] + [(pause, n) for n in range(args.pauses)]
    failed = 0
    with running_cluster("system" if system_binaries() else "embedded") as cluster:
        for blow, n in blows:
            with tempfile.TemporaryDirectory() as folder:
                report = blow(args.first + n, cluster, Path(folder))
            print(report, flush=True)
            failed += bool(report.wrong)
            for line in report.wrong:
                print(f"  WRONG: {line}")
            if report.wrong:
                which = "KILLS=1 PAUSES=0" if blow is kill else "KILLS=0 PAUSES=1"
                print(f"  again: make soak SEEDS=0 {which} FIRST={report.seed}", flush=True)
    print(f"{len(blows) - failed} kills and pauses passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
