"""The distribution: built as it would be published, and installed into empty environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.source import ROOT

VERSIONS = ("3.11", "3.12", "3.13")
"""Those that pyproject.toml names."""

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@dataclass(frozen=True)
class Built:
    """What would be published."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment that had nothing in it, not even pip."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """Nothing of this process's environment but the paths, and a home of its own."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def run(self, program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs."""
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            env=self.variables | more, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def pip(self, *arguments: str) -> str:
        """Run pip on it: this process's, with this machine's own settings."""
        done = subprocess.run(
            [*PIP, "--python", str(self.folder / "bin" / "python"), *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, requirement: str) -> None:
        """What is not used is not compiled: most of the time goes into that."""
        self.pip("install", "--quiet", "--no-compile", requirement)

    def installed(self) -> dict[str, str]:
        """{name: version} of all distributions."""
        listed = json.loads(self.pip("list", "--format=json"))
        return {found["name"].lower(): found["version"] for found in listed}


def build(folder: Path) -> Built:
    """The sdist of this checkout, and the wheel that is made from it."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


def interpreter(version: str) -> str | None:
    """A Python of that version: of the PATH, or the newest that pyenv has."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    installed = pyenv.glob(f"{version}.*/bin/{name}")
    newest_first = sorted(installed, key=lambda path: _numbers(path.parts[-3]), reverse=True)
    return next((python for python in (name, *map(str, newest_first)) if _works(python)), None)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _works(python: str) -> bool:
    """Whether there is an interpreter of that name, and not just a signpost to one."""
    try:
        done = subprocess.run([python, "-c", "import venv"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def empty(python: str, folder: Path) -> Environment:
    """A fresh environment of that interpreter, with nothing in it."""
    subprocess.run(
        [python, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True
    )
    return Environment(folder)
