"""The distribution: built as it would be published, and installed into empty environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.source import ROOT

WITHOUT_PIP = ("pip", "setuptools")
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


@dataclass(frozen=True)
class Built:
    """What would be published."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment that had nothing but pip in it."""

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
        """Run pip, which may need this machine's own settings."""
        done = subprocess.run(
            [self.folder / "bin" / "python", *PIP, *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def installed(self) -> dict[str, str]:
        """{name: version} of all distributions."""
        listed = json.loads(self.pip("list", "--format=json"))
        return {
            found["name"].lower(): found["version"]
            for found in listed
            if found["name"] not in WITHOUT_PIP
        }

    def would_install(self, *requirements: str) -> dict[str, str]:
        """{name: version} of what pip would put into an empty environment."""
        report = self.pip(
            "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *requirements
        )
        named = [found["metadata"] for found in json.loads(report)["install"]]
        return {found["name"].lower(): found["version"] for found in named}


def build(folder: Path) -> Built:
    """The sdist of this checkout, and the wheel that is made from it."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


def works(python: str) -> bool:
    """Whether there is an interpreter of that name, and not just a signpost to one."""
    try:
        return (
            subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False


def environment(python: str, folder: Path, *requirements: str) -> Environment:
    """A fresh one, with what pip installs for `requirements`."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True, capture_output=True)
    made = Environment(folder)
    # What is not used is not compiled: most of the time goes into that.
    made.pip("install", "--quiet", "--no-compile", *requirements)
    return made
