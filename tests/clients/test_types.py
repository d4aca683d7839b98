"""The types are right: a type checker, run on a user's code, says so."""

import subprocess
import sys
from pathlib import Path

import openai

SAMPLE = Path(__file__).with_name("typed_sample.py")
# Each version of the official package has a cache of its own: shared, it would be useless to both.
CACHE = Path(__file__).parents[2] / ".mypy_cache" / f"openai-{openai.__version__}"


def test_mypy_accepts_the_sample_as_it_stands() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", CACHE, SAMPLE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
