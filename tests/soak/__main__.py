"""Seeded worlds, and the books at their ends.

make soak SEEDS=20            seeds 0 to 19, in worlds of each kind
make soak SEEDS=1 FIRST=17    seed 17 again
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from soak import days, memory, processes
from soak.worlds import Report
from support.postgres import Cluster, running_cluster

KINDS = ("days", "processes", "memory")
WAVES, CALLS = 10, 5000


def run(kind: str, seed: int, cluster: Cluster, folder: Path) -> Report:
    """One world."""
    if kind == "days":
        return days.run_world(seed, cluster, folder)
    if kind == "processes":
        return processes.run_world(seed, folder)
    return memory.run_world(seed, cluster, folder, waves=WAVES, calls=CALLS)


def worlds(kinds: Sequence[str], first: int, seeds: int) -> Iterator[tuple[str, int]]:
    """Which worlds there are; the one of memory is always the same, so once is enough."""
    for seed in range(first, first + seeds):
        for kind in kinds:
            if kind != "memory" or seed == first:
                yield kind, seed


def main(argv: Sequence[str]) -> int:
    """Run the worlds; 1 if any went wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description="Run seeded worlds.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args(argv)
    logging.disable()  # the servers of this process tell of a thousand troubles, all wanted
    passed = failed = kills = 0
    with running_cluster("embedded") as cluster:
        for kind, seed in worlds(args.kinds, args.first, args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                report = run(kind, seed, cluster, Path(folder))
            print(report, flush=True)
            for line in report.wrong:
                print(f"  WRONG: {line}")
            if report.wrong:
                print(f"  again: make soak SEEDS=1 FIRST={seed} KINDS={kind}", flush=True)
            kills += report.kills
            failed += bool(report.wrong)
            passed += not report.wrong
    print(f"{passed} worlds passed, {failed} failed, {kills} kills")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
