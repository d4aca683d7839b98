"""A container without an engine: namespaces and chroot, by what the image itself says.

It is run as strictly as compose.yaml has it: the files are read-only but for the volume and /tmp,
there is no capability and no way to one, and the entry point is process 1.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from image.building import Image
from support.process import free_port, wait_ready

DEADLINE_S = 120.0
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc")
MOUNT_AND_RUN = """
set -e
root=$1 volume=$2 in_container=$3
shift 3
mount --bind "$root" "$root"
cd "$root"
mount --bind "$volume" "$root$in_container"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Container:
    """A running container. `process` is its process 1, as seen from outside."""

    url: str
    process: psutil.Process
    log: Path
    _image: Image
    _environment: dict[str, str]
    _outer: subprocess.Popen[bytes]

    def wait_ready(self) -> None:
        """Until /ready says so."""
        wait_ready(self.url, self._outer, self.log, DEADLINE_S)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it, as `docker exec` and the health check do."""
        return subprocess.run(
            [
                "nsenter", f"--target={self.process.pid}", "--mount", "--pid", "--root",
                *_as_its_user(self._image, self._environment), *command,
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def healthy(self) -> bool:
        """What the image's own health check says."""
        kind, *command = self._image.config["Healthcheck"]["Test"]
        assert kind == "CMD", "a health check that needs no shell"
        return self.execute(*command).returncode == 0

    def wait_healthy(self) -> None:
        """Until its health check says so."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.healthy():
            assert time.monotonic() < deadline, f"it is not healthy:\n{self.log.read_text()}"

    def wait_logged(self, event: str) -> None:
        """Until its log has the event."""
        deadline = time.monotonic() + DEADLINE_S
        while event not in self.log.read_text():
            assert time.monotonic() < deadline, f"no {event}:\n{self.log.read_text()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM to process 1, as `docker stop` sends it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._outer.wait(timeout=DEADLINE_S)


@contextmanager
def running(image: Image, volume: Path, environment: Mapping[str, str]) -> Iterator[Container]:
    """The image's entry point, on a free port; killed at the end if it still runs."""
    port = free_port()
    given = {**image.environment, **environment, "PORT": str(port)}
    log = volume.parent / f"container-{port}.log"
    with log.open("wb") as output:
        outer = subprocess.Popen(
            _command(image, volume, given), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        process = _process_1(outer)
        yield Container(f"http://localhost:{port}", process, log, image, given, outer)
    finally:
        outer.kill()  # and with it, by --kill-child, process 1 and all others in there
        outer.wait()


def refusal(image: Image, volume: Path, environment: Mapping[str, str]) -> str:
    """What a container says that ends by itself, and not well."""
    given = {**image.environment, **environment}
    done = subprocess.run(
        _command(image, volume, given),
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return done.stderr


def new_volume(image: Image, folder: Path) -> Path:
    """A volume as an engine makes it at first: owner and mode are those of the image's folder."""
    volume = folder / "volume"
    there = (image.root / _mount_point(image).lstrip("/")).stat()
    volume.mkdir(mode=there.st_mode & 0o777)
    subprocess.run(["chown", f"{there.st_uid}:{there.st_gid}", str(volume)], check=True)
    return volume


def _mount_point(image: Image) -> str:
    (mount_point,) = image.config["Volumes"]
    return str(mount_point)


def _command(image: Image, volume: Path, environment: Mapping[str, str]) -> list[str]:
    return [
        "unshare", *NAMESPACES, "--fork", "--kill-child",
        "sh", "-c", MOUNT_AND_RUN, "sh", str(image.root), str(volume), _mount_point(image),
        *_as_its_user(image, environment), *image.config["Entrypoint"], *image.config["Cmd"],
    ]  # fmt: skip


def _as_its_user(image: Image, environment: Mapping[str, str]) -> list[str]:
    """By programs inside the image: its user, its folder, nothing but its environment."""
    user, group = image.user.split(":")
    return [
        "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
        "--no-new-privs", "--bounding-set=-all",
        "env", "-i", "-C", image.config["WorkingDir"],
        *(f"{name}={value}" for name, value in environment.items()),
    ]  # fmt: skip


def _process_1(outer: subprocess.Popen[bytes]) -> psutil.Process:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and outer.poll() is None:
        if children := psutil.Process(outer.pid).children():
            return children[0]
        time.sleep(0.01)
    raise AssertionError("the container did not start")
