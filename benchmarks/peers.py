"""What is measured beside us lives in an environment of its own, `.venv-bench`."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

BIN = Path(__file__).parents[1] / ".venv-bench" / "bin"


@cache
def version_of(package: str) -> str | None:
    """The version that is installed there; None if there is none."""
    if not (BIN / "python").exists():
        return None
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([BIN / "python", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
