"""Other users of the machine: what they find, what they put in the way, and whom they can ask.

The service may run as root or not; whoever attacks is another user, which only root can play.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from conftest import Upstreamed
from openaibatching.server.auth.bootstrap import keys
from openaibatching.server.database import embedded_programs, embedded_sockets
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.server.database.embedded_programs import installed, within_reach
from openaibatching.server.errors import ConfigError
from support.other_users import NEEDS_ROOT, as_nobody, folder_of, nobody
from support.process import environment, server_process
from support.world import settings_for

LONG = "d" * 100
"""As a folder's name it makes the path of a socket in it too long."""
SECRETS = {
    "OPENAI_API_KEY": "sk-hidden-1",
    "OPENAI_WEBHOOK_SECRET": "whsec_aGlkZGVuLTI=",
    "BATCH_SERVER_API_KEY": "hidden-3-of-some-length",
}


@contextmanager
def started(folder: Path, binaries: Path | None = None) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(folder, binaries)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def sockets(postgres: EmbeddedPostgres) -> Path:
    return Path(str(conninfo_to_dict(postgres.url)["host"]))


def answers(postgres: EmbeddedPostgres) -> bool:
    with closing(psycopg.connect(postgres.url)) as conn:
        return conn.execute("select 1").fetchone() == (1,)


def modes(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents)}


def is_private(folder: Path, owner: int) -> bool:
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and stat.S_IMODE(found.st_mode) == 0o700
        and found.st_uid == owner
    )


def owner_of(folder: Path) -> int:
    """The user that the database in this data folder runs as."""
    return (folder / "postgres").stat().st_uid


def group_of(folder: Path) -> int:
    """The group of that user."""
    return (folder / "postgres").stat().st_gid


# ----- what is opened -----


@pytest.mark.parametrize("name", ["data", LONG])
def test_no_folder_is_opened_to_others(tmp_path: Path, name: str) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = modes(closed)
    with started(closed / name) as postgres:
        assert answers(postgres)
        assert modes(closed) == before
        made = (closed / name).stat()
        if os.geteuid() == 0:  # PostgreSQL's user may pass
            assert (stat.S_IMODE(made.st_mode), made.st_gid) == (0o710, group_of(closed / name))
        else:
            assert stat.S_IMODE(made.st_mode) == 0o700
        assert stat.S_IMODE((sockets(postgres) / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert is_private(sockets(postgres), owner_of(closed / name))


@NEEDS_ROOT
def test_programs_that_only_root_reaches_are_copied_and_nothing_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    package = installed().parent.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, closed / part.name, symlinks=True)
    closed.chmod(0o700)
    programs = closed / installed().relative_to(package.parent)
    before = modes(programs)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(embedded_programs, "COPIES", Path(folder) / "programs")
        for _ in range(2):  # the second finds the copy
            with started(tmp_path / "data", programs) as postgres:
                assert answers(postgres)
        copies = list((Path(folder) / "programs").iterdir())
        assert len(copies) == 1
        writable = [p for p in copies[0].rglob("*") if p.lstat().st_uid != 0 or
                    (not p.is_symlink() and p.stat().st_mode & 0o022)]  # fmt: skip
        assert writable == []
    assert modes(programs) == before


@NEEDS_ROOT
def test_copies_are_not_made_in_a_folder_that_somebody_else_has_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed" / "bin"
    closed.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    (closed / "postgres").touch()
    with folder_of(nobody()) as theirs:
        monkeypatch.setattr(embedded_programs, "COPIES", theirs)
        with pytest.raises(ConfigError, match="a folder that only root may write"):
            within_reach(closed)


# ----- what is in the way -----


def their_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(path, nobody().pw_uid, nobody().pw_gid)


def a_link_to_their_folder(path: Path) -> None:
    theirs = path.with_name(f"{path.name}-theirs")
    their_folder(theirs)
    path.symlink_to(theirs)


def a_link_to_our_folder(path: Path) -> None:
    ours = path.with_name(f"{path.name}-ours")
    path.rename(ours)
    path.symlink_to(ours)


def an_open_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Among the temporary files of the system: pytest's own are too long for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="ob-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    "put", [their_folder, a_link_to_their_folder, a_link_to_our_folder, an_open_folder]
)
def test_a_folder_for_the_socket_that_is_not_ours_alone_is_not_used(
    put: Callable[[Path], None],
    tmp_path: Path,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = short_folder
    temporary.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    folder = tmp_path / LONG
    folder.mkdir()
    # The name could be foreseen once.
    their_folder(temporary / f"openaibatching-{folder.stat().st_ino}")
    with started(folder) as postgres:
        first = sockets(postgres)
        assert is_private(first, owner_of(folder))
    if put is not a_link_to_our_folder:
        first.rmdir()
    put(first)
    with started(folder) as postgres:
        assert sockets(postgres) != first
        assert is_private(sockets(postgres), owner_of(folder))
        assert answers(postgres)


@pytest.mark.parametrize("name", [LONG, "a,b"])
def test_where_the_path_of_tmpdir_is_unfit_too_the_socket_is_where_the_system_has_such_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with started(tmp_path / name / "data") as postgres:
        assert sockets(postgres).parent == Path("/tmp")
        assert is_private(sockets(postgres), owner_of(tmp_path / name / "data"))
        assert answers(postgres)
    shutil.rmtree(sockets(postgres))


def test_where_every_path_is_too_long_the_start_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LONG).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / LONG))
    monkeypatch.setattr(embedded_sockets, "SHORT_PLACES", ("/nowhere",))
    with pytest.raises(ConfigError, match="set TMPDIR to a folder with a short path"):
        EmbeddedPostgres(tmp_path / LONG / "data").start()


def test_a_running_database_whose_folder_for_the_socket_was_taken_gets_another(
    tmp_path: Path,
) -> None:
    with started(tmp_path / LONG) as one:
        first = sockets(one)
        shutil.rmtree(first)  # as programs do that clean the folder for temporary files
        their_folder(first)
        try:
            with started(tmp_path / LONG) as other:
                assert sockets(other) != first
                assert answers(other)
        finally:
            shutil.rmtree(first)


@NEEDS_ROOT
def test_a_database_that_somebody_else_has_put_there_is_refused(tmp_path: Path) -> None:
    with started(tmp_path / "data"):
        pass
    theirs = tmp_path / "data" / "postgres"
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, nobody().pw_uid, nobody().pw_gid)
    with pytest.raises(ConfigError, match="belongs to the user nobody"):
        EmbeddedPostgres(tmp_path / "data").start()


@pytest.mark.parametrize("whose", ["readable", "theirs"])
def test_a_key_that_another_user_knows_is_no_key(whose: str, tmp_path: Path) -> None:
    if whose == "theirs" and os.geteuid() != 0:
        pytest.skip("not root: no other user can be played on this machine")
    file = tmp_path / "api_key"
    file.write_text("a-key-of-somebody-else")
    file.chmod(0o600 if whose == "theirs" else 0o604)
    if whose == "theirs":
        os.chown(file, nobody().pw_uid, nobody().pw_gid)
    settings = settings_for("http://127.0.0.1:1/v1", tmp_path, batch_server_api_key=None)
    with pytest.raises(ConfigError, match=f"DATA_DIR: .*{file}"):
        keys(settings)


# ----- whom they can ask, and who asks them -----


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["data", LONG])
def test_another_user_gets_nothing_of_the_database_even_where_its_folders_are_open(
    tmp_path: Path, name: str
) -> None:
    psql = str(within_reach(installed()) / "psql")
    with folder_of(nobody()) as parent, started(parent / name) as postgres:
        folder = sockets(postgres)
        ask = (psql, "-h", str(folder), "-U", "postgres", "-c", "select 1", "postgres")
        assert "Permission denied" in as_nobody(*ask).stderr
        for path in (parent, parent / name, folder, folder / ".s.PGSQL.5432"):
            path.chmod(0o777)  # by a mistake of somebody
        for user in ("postgres", "nobody"):
            asked = as_nobody(psql, "-h", str(folder), "-U", user, "-c", "select 1", "postgres")
            assert asked.returncode != 0
            assert f'Peer authentication failed for user "{user}"' in asked.stderr


@contextmanager
def impostor(folder: Path) -> Iterator[list[bytes]]:
    """Another user's program behind a socket in this folder; what it is told."""
    told: list[bytes] = []

    def listen(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            told.append(connection.recv(1024))

    with socket.socket(socket.AF_UNIX) as server:
        os.seteuid(nobody().pw_uid)  # who listens is what the kernel says of it
        try:
            server.bind(str(folder / ".s.PGSQL.5432"))
            server.listen()
        finally:
            os.seteuid(0)
        thread = threading.Thread(target=listen, args=[server])
        thread.start()
        yield told
        thread.join(timeout=60)


@NEEDS_ROOT
def test_an_impostor_behind_the_socket_is_told_nothing(tmp_path: Path) -> None:
    url = EmbeddedPostgres(tmp_path / "data").url
    with (
        folder_of(nobody()) as theirs,
        impostor(theirs) as told,
        pytest.raises(psycopg.OperationalError, match="requirepeer"),
    ):
        psycopg.connect(f"{url.partition('host=')[0]}host={theirs}")
    assert told == [b""]


# ----- what the database's processes know -----


def test_no_process_of_the_database_has_a_secret_in_its_environment(
    upstream: Upstreamed, tmp_path: Path
) -> None:
    env = environment(upstream.base_url, tmp_path, **SECRETS, ANOTHER_KEY="hidden-4", PGPORT=1)
    with server_process(env) as server:
        main = psutil.Process(
            int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        )
        family = [main, *main.children(recursive=True)]
        assert len(family) > 3
        known = "".join(str(process.environ()) for process in family)
        assert "PATH" in known
        assert "hidden" not in known
        assert "aGlkZGVu" not in known
        assert server.terminate() == 0


def test_a_program_that_the_database_runs_finds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "hidden-5")
    with started(tmp_path / "data") as postgres, closing(psycopg.connect(postgres.url)) as conn:
        conn.execute("create temp table said (line text)")
        conn.execute("copy said from program 'env' with (format csv, delimiter E'\\x01')")
        lines = [line for (line,) in conn.execute("select line from said").fetchall()]
    assert any(line.startswith("PATH=") for line in lines)
    assert not any("hidden" in line for line in lines)


def test_the_variables_of_libpq_do_not_lead_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGDATABASE": "x", "PGUSER": "x", "PGDATA": "/x"}.items():
        monkeypatch.setenv(name, value)
    with started(tmp_path / 'it\'s a folder, "quoted"') as postgres:
        assert answers(postgres)
