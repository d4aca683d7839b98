"""Kills at seeded points, of servers on seeded kinds of PostgreSQL, with seeded numbers of calls.

make soak SEEDS=0 KILLS=200             kills 0 to 199
make soak SEEDS=0 KILLS=1 FIRST=17      kill 17 again
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.killing import KINDS, world_of
from support.points import POINTS, goes_on
from support.postgres import Cluster, running_cluster, system_binaries

CALLS = (1, 2, 20, 150)
"""How many: from a batch of one to several batches."""


@dataclass
class Report:
    """A kill, and what was wrong afterwards."""

    seed: int
    point: str = ""
    kind: str = ""
    calls: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = f"{self.point} ({self.kind}), {self.calls} calls"
        return f"kill {self.seed}: {what}, {self.seconds:.0f} s"


def run(seed: int, cluster: Cluster, folder: Path) -> Report:
    """Kill once and look. Each len(POINTS) seeds in a row are a kill at every point."""
    dice = random.Random(f"kill {seed}")
    report, started = Report(seed), time.monotonic()
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


def main(argv: Sequence[str]) -> int:
    """Kill and kill again; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description="Kill servers at seeded points.")
    parser.add_argument("--kills", type=int, default=len(POINTS))
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args(argv)
    failed, points = 0, Counter[str]()
    with running_cluster("system" if system_binaries() else "embedded") as cluster:
        for seed in range(args.first, args.first + args.kills):
            with tempfile.TemporaryDirectory() as folder:
                report = run(seed, cluster, Path(folder))
            print(report, flush=True)
            points[report.point] += 1
            failed += bool(report.wrong)
            for line in report.wrong:
                print(f"  WRONG: {line}")
            if report.wrong:
                print(f"  again: make soak SEEDS=0 KILLS=1 FIRST={seed}", flush=True)
    print(f"{args.kills - failed} kills passed, {failed} failed, at {len(points)} points")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
