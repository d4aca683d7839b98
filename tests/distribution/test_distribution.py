"""The wheel and the sdist, installed into empty environments and used there.

With this Python, and in `make test-dist` with each that OPENAIBATCHING_PYTHONS names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.real_server import BatchServer, Running, real_server
from distribution.installed import Built, Environment, build, environment, works
from support.postgres import running_cluster
from support.process import free_port, wait_ready
from support.readme import ADDRESS, example
from support.source import PACKAGE

PYTHONS = os.environ.get("OPENAIBATCHING_PYTHONS", sys.executable).split()
PENDING = "Still in progress.. we should query it again after a few mins.\n"


def name_of(python: str) -> str:
    return Path(python).name


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session", params=PYTHONS, ids=name_of)
def python(request: pytest.FixtureRequest) -> str:
    if not works(request.param):
        pytest.skip(f"{request.param} was not found here")
    return str(request.param)


@pytest.fixture(scope="session")
def bare(python: str, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, without extras."""
    return environment(python, tmp_path_factory.mktemp("bare") / "venv", str(built.wheel))


@pytest.fixture(scope="session")
def full(python: str, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The sdist, with the server."""
    folder = tmp_path_factory.mktemp("full") / "venv"
    return environment(python, folder, f"openaibatching[server] @ {built.sdist.as_uri()}")


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a tenant for each Python: to each of them the call is a new one."""
    keys = [name_of(python) for python in PYTHONS]
    with (
        running_cluster("embedded") as postgres,
        real_server(postgres, keys, tmp_path_factory.mktemp("server")) as running,
    ):
        yield running


@pytest.fixture
def batch_server(running_server: Running, python: str) -> Iterator[BatchServer]:
    yield BatchServer(running_server.url, name_of(python), running_server.clock)
    running_server.clock.stop()


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == package
    assert {"openaibatching/py.typed", "openaibatching/server/sql/schema.sql"} <= names


def test_the_sdist_holds_what_the_wheel_is_made_of_and_no_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        tops = {name.split("/")[1] for name in sdist.getnames()}
    wanted = {"src", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"}
    assert tops - {".gitignore"} == wanted


def test_a_bare_install_brings_the_official_package_and_nothing_else(bare: Environment) -> None:
    installed = bare.installed()
    official = bare.would_install(f"openai=={installed['openai']}")
    assert set(installed) - set(official) == {"openaibatching"}
    assert set(official) <= set(installed)


def test_a_bare_install_makes_the_call_of_the_readme(
    bare: Environment, batch_server: BatchServer
) -> None:
    code = example("## The call").replace(ADDRESS, batch_server.url)
    first = bare.run("python", "-W", "error", "-c", code, BATCH_SERVER_API_KEY=batch_server.key)
    assert (first.stdout, first.stderr) == (PENDING, "")
    batch_server.finish()
    later = bare.run("python", "-W", "error", "-c", code, BATCH_SERVER_API_KEY=batch_server.key)
    assert (later.stdout, later.stderr) == ("You said: Hello, world!\n", "")


@pytest.mark.parametrize("command", ["serve", "demo", "simulate"])
def test_a_bare_install_says_in_one_line_what_a_command_needs(
    bare: Environment, command: str
) -> None:
    done = bare.run("openaibatching", command, OPENAI_API_KEY="sk-simulated")
    assert done.returncode == 2
    assert "pip install 'openaibatching[server]'" in done.stderr
    assert done.stdout + done.stderr == done.stderr.splitlines()[0] + "\n"


def test_a_full_install_needs_only_the_key_of_openai_to_serve(full: Environment) -> None:
    # The port is a flag only because 9487 may be taken here.
    port, log = free_port(), full.folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [full.folder / "bin" / "openaibatching", "serve", "--port", str(port)],
            env=full.variables | {"OPENAI_API_KEY": "sk-simulated"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        wait_ready(f"http://127.0.0.1:{port}", server, log, within_s=120)
        server.terminate()
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
    assert re.search(r"^BATCH_SERVER_API_KEY=\S{32,}  \(kept in ", log.read_text(), re.MULTILINE)


def test_a_full_install_runs_the_demonstration(full: Environment) -> None:
    done = full.run("openaibatching", "demo")
    assert done.returncode == 0, done.stderr
    assert PENDING in done.stdout
    assert "You said: Hello, world!\n" in done.stdout
