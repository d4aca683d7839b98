"""The image, built from the very Dockerfile by buildah, which needs no daemon.

What FROM names lies in a registry. A Debian root with Python stands in for it, under the same
name; it is made once and kept in `.image/`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.source import ROOT

FOLDER = ROOT / ".image"
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
BASE = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)[-1]
DEBIAN = "trixie"
"""The Debian release whose Python is the one that BASE has."""

PACKAGES = "python3,python3-venv,ca-certificates"
# How this machine reaches a package index, for the `pip` of the build.
OF_THIS_MACHINE = ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STORAGE = ["--storage-driver", "vfs", "--root", f"{FOLDER}/storage", "--runroot", f"{FOLDER}/run"]


def buildah(*arguments: str) -> str:
    """What a command of buildah prints, in a storage of its own."""
    done = subprocess.run(
        ["buildah", *STORAGE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"buildah {arguments[0]}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Image:
    """A built image: its files, and what it says about how it is to be run."""

    root: Path
    config: dict[str, Any]

    @property
    def user(self) -> str:
        return str(self.config["User"])

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])


@contextmanager
def built() -> Iterator[Image]:
    """The image of this checkout."""
    if not buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        _make_base()
    image = buildah(
        "build", "--quiet", "--isolation", "chroot", "--pull-never", "--format", "docker", "."
    ).splitlines()[-1]  # fmt: skip
    container = buildah("from", "--pull-never", image)
    try:
        config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
        yield Image(Path(buildah("mount", container)), config)
    finally:
        buildah("rm", container)
        buildah("rmi", image)


def _make_base() -> None:
    root = FOLDER / "base"
    shutil.rmtree(root, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "debootstrap.log").open("wb") as log:
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root)],
            stdout=log, stderr=log, check=True,
        )  # fmt: skip
    for name in OF_THIS_MACHINE:
        if Path("/", name).exists():
            shutil.copy(Path("/", name), root / name)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(root), "/")
    buildah("config", "--env", f"PATH={PATH}", container)
    buildah("commit", "--quiet", container, f"docker.io/library/{BASE}")
    buildah("rm", container)
    shutil.rmtree(root)
