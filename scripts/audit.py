"""Known faults of what is locked, asked of the registries: `make audit`.

Exit code 0: there are none. 1: there are some. 3: a registry could not be asked about all of it, so
nothing is known, whatever was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NONE, SOME, UNKNOWN = 0, 1, 3
PIP = (
    sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner",
    "off", "--format", "json", "-r", str(ROOT / "deploy" / "requirements.lock"),
)  # fmt: skip
NPM = ("npm", "audit", "--json")


class Found(NamedTuple):
    """The faults, a line each, and why not all could be asked about; None if all could."""

    faults: list[str]
    unknown: str | None


def read_pip(text: str) -> Found:
    """What `pip-audit --format json` has written."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Found([], "pip-audit has no result")
    skipped = [f"{p['name']}: {p['skip_reason']}" for p in packages if "skip_reason" in p]
    faults = [
        f"{p['name']} {p['version']}: {fault['id']}"
        for p in packages
        for fault in p.get("vulns", ())
    ]
    return Found(faults, f"{len(skipped)} not asked about ({skipped[0]})" if skipped else None)


def read_npm(text: str) -> Found:
    """What `npm audit --json` has written."""
    try:
        faults = json.loads(text)["vulnerabilities"]
        return Found([f"{name}: {its['severity']}" for name, its in faults.items()], None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Found([], "npm audit has no result")


def verdict(found: Sequence[tuple[str, Found]]) -> tuple[int, list[str]]:
    """The exit code, and the lines that say why."""
    lines = [f"{name}: known fault: {fault}" for name, its in found for fault in its.faults]
    unknown = [f"{name}: not audited: {its.unknown}" for name, its in found if its.unknown]
    code = UNKNOWN if unknown else SOME if lines else NONE
    return code, lines + unknown or ["No known faults."]


def _written(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        print(error, file=sys.stderr)
        return ""
    print(done.stderr, end="", file=sys.stderr)
    return done.stdout


def main() -> int:
    """Ask both; the exit code."""
    code, lines = verdict(
        [
            ("requirements.lock", read_pip(_written(PIP, ROOT))),
            ("package-lock.json", read_npm(_written(NPM, ROOT / "clients" / "typescript"))),
        ]
    )
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
