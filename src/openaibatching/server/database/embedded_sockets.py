"""The way in to the embedded PostgreSQL: a socket in a private folder, and who may use it.

Anybody may write in the folder for temporary files, so a folder there has a name that nobody can
foresee, and is looked at again before each use: it is ours and closed to others, or it is not used.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path

from openaibatching.server.errors import ConfigError

PORT = 5432
"""It only names the socket: there is no TCP."""
SOCKET = f".s.PGSQL.{PORT}"
MAP = "openaibatching"
ROLES = ("postgres", "all")
"""To PostgreSQL before 16, which the package does not bring, `all` is a name like others."""
RECORD = "postgres.sockets"
"""The file in the data folder that names the socket's folder, where that is another."""
# The longest path of a Unix socket differs by system; 103 bytes fit all of them (POSIX unix(7)).
SOCKET_PATH_BYTES_MAX = 103
SHORT_PLACES = ("/tmp", "/var/tmp")  # noqa: S108 - a folder there is private and has a random name
_PREFIX, _RANDOM = "openaibatching-", "12345678"  # as long as what mkdtemp appends


def is_private(folder: Path, uid: int) -> bool:
    """Whether this is a folder (no link to one) of that user, which nobody else may enter."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid == uid


def fits(data: Path) -> bool:
    """Whether the socket can be in the database's own folder: libpq reads a comma as two hosts."""
    return len(bytes(data / SOCKET)) <= SOCKET_PATH_BYTES_MAX and "," not in str(data)


def folder(data: Path) -> Path | None:
    """Where the socket of the database in `data` is; None if it has to be made somewhere else.

    Raises OSError.
    """
    if fits(data):
        return data
    try:
        return Path((data.parent / RECORD).read_text().strip())
    except FileNotFoundError:
        return None


def make_folder(data: Path, user: pwd.struct_passwd) -> Path:
    """A new private folder of that user for the socket, recorded beside `data`.

    Raises ConfigError where the path of a socket is too long everywhere, and OSError.
    """
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_place()))  # mode 0700
    if user.pw_uid != os.geteuid():
        os.chown(made, user.pw_uid, user.pw_gid)
    replace(data.parent / RECORD, str(made))
    return made


def _short_place() -> str:
    """The folder for temporary files, or the system's own where that of TMPDIR is too long."""
    for place in (tempfile.gettempdir(), *SHORT_PLACES):
        if fits(Path(place) / f"{_PREFIX}{_RANDOM}") and os.access(place, os.W_OK | os.X_OK):
            return place
    raise ConfigError(
        "DATA_DIR and TMPDIR: the path of a socket in either of them is too long or has a comma, "
        f"and {' and '.join(SHORT_PLACES)} cannot be written: set TMPDIR to a folder with a short "
        "path"
    )


def replace(path: Path, text: str, user: pwd.struct_passwd | None = None) -> None:
    """Write a file of mode 0600, whole or not at all, and through no link. Raises OSError."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        if user is not None and user.pw_uid != os.geteuid():
            os.chown(part, user.pw_uid, user.pw_gid)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def access(users: set[str]) -> dict[str, str]:
    """{file of PostgreSQL's: content} that lets in these users of the system, as any role, and
    nobody else (https://www.postgresql.org/docs/current/auth-username-maps.html)."""
    head = "# Written by openaibatching at each start.\n"
    quoted = ('"' + user.replace('"', '""') + '"' for user in sorted(users))
    names = [f"{MAP} {user} {role}\n" for user in quoted for role in ROLES]
    return {
        "pg_hba.conf": f"{head}local all,replication all peer map={MAP}\n",
        "pg_ident.conf": head + "".join(names),
    }
