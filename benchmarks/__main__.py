"""Measures the figures, and prints the table.

Each figure is kept in build/bench/ when it has been measured, so that a run that was interrupted
goes on with --resume.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks import load, peers, profile
from benchmarks.figure import HEADER, Row, Sizes
from openaibatching.server.database.embedded import EmbeddedPostgres

FIGURES = ("door", "bulk", "whole", "banking", "growth", "rows", "memory", "forecast")
KEPT = Path(__file__).parents[1] / "build" / "bench"


def main() -> int:
    options = _options()
    profile.wanted = options.profile
    sizes = Sizes(options.short, options.rows or (20_000 if options.short else 10_000_000))
    rows: list[Row] = []
    for name in options.figures:
        found = _kept(name) if options.resume else None
        rows += (
            found
            if found is not None
            else _measure(name, sizes, keep=not (options.short or options.profile))
        )
    print("\n" + _conditions(sizes, options.figures) + "\n\n" + HEADER)
    for row in rows:
        print(row.markdown())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--figures", default="", help=f"of {','.join(FIGURES)}; all if left out")
    parser.add_argument("--rows", type=int, default=0, help="stored by `growth`")
    parser.add_argument("--short", action="store_true", help="tiny: checks results, not times")
    parser.add_argument("--resume", action="store_true", help="keep what was measured before")
    parser.add_argument("--profile", action="store_true", help="tell what the server computes")
    options = parser.parse_args()
    options.figures = [name for name in options.figures.split(",") if name] or list(FIGURES)
    if unknown := set(options.figures) - set(FIGURES):
        parser.error(
            f"no such figure: {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}"
        )
    return options


def _measure(name: str, sizes: Sizes, *, keep: bool) -> list[Row]:
    print(f"{name} …", file=sys.stderr, flush=True)
    started = time.monotonic()
    rows: list[Row] = import_module(f"benchmarks.{name}").measure(sizes)
    for row in rows:
        print(f"  {row.markdown()}", file=sys.stderr, flush=True)
    print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if keep:
        KEPT.mkdir(parents=True, exist_ok=True)
        text = json.dumps([row.as_dict() for row in rows], indent=1)
        (KEPT / f"{name}.json").write_text(text, "utf-8")
    return rows


def _kept(name: str) -> list[Row] | None:
    path = KEPT / f"{name}.json"
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))] if path.exists() else None


def _conditions(sizes: Sizes, figures: list[str]) -> str:
    command = "make bench" + (" SHORT=1" if sizes.short else "")
    if set(figures) != set(FIGURES):
        command += f" FIGURES={','.join(figures)}"
    if "growth" in figures and not sizes.short:
        command += f" ROWS={sizes.rows}"
    postgres = subprocess.run(
        [str(_postgres()), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    versions = ", ".join(
        [f"Python {platform.python_version()}", f"PostgreSQL {postgres}"]
        + [f"{name} {version(name)}" for name in ("openai", "uvicorn", "psycopg")]
        + [f"autobatcher {peers.version_of('autobatcher') or 'none'}"]
    )
    busy = os.getloadavg()[0]
    return (
        f"`{command}`: {versions}; {os.cpu_count()} cores, load {busy:.1f} at the end; "
        f"load generator {load.NAME}."
    )


def _postgres() -> Path:
    return EmbeddedPostgres(KEPT)._bin / "postgres"


if __name__ == "__main__":
    sys.exit(main())
