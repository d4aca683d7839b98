"""The wheel and the sdist, installed into empty environments and used there.

With each Python that the project is for and that is found here.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clients.real_server import BatchServer, Running, real_server
from distribution.installed import VERSIONS, Built, Environment, build, empty, interpreter
from support.deadline import DEADLINE_S
from support.postgres import running_cluster
from support.process import free_port, wait_ready
from support.readme import ADDRESS, example
from support.run_command import input_line, said, write_jsonl
from support.source import PACKAGE, ROOT

PYPROJECT = ROOT / "pyproject.toml"
PENDING = "Still in progress.. we should query it again after a few mins.\n"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def python(version: str) -> str:
    found = interpreter(version)
    if found is None:
        pytest.skip(f"Python {version} was found neither on the PATH nor in pyenv")
    return found


@dataclass(frozen=True)
class Bare:
    """The wheel without extras, put beside the official package and what that needs."""

    environment: Environment
    official: dict[str, str]


@pytest.fixture(scope="session")
def bare(python: str, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    environment = empty(python, tmp_path_factory.mktemp("bare") / "venv")
    (official_package,) = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["dependencies"]
    environment.install(official_package)
    official = environment.installed()
    environment.install(str(built.wheel))
    return Bare(environment, official)


@pytest.fixture(scope="session")
def full(python: str, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The sdist, with the server."""
    environment = empty(python, tmp_path_factory.mktemp("full") / "venv")
    environment.install(f"openaibatching[server] @ {built.sdist.as_uri()}")
    return environment


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a tenant for each Python: to each of them the call is a new one."""
    with (
        running_cluster("embedded") as postgres,
        real_server(postgres, list(VERSIONS), tmp_path_factory.mktemp("server")) as running,
    ):
        yield running


@pytest.fixture
def batch_server(running_server: Running, version: str) -> Iterator[BatchServer]:
    yield BatchServer(running_server.url, version, running_server.clock)
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
    assert {"openaibatching/py.typed", "openaibatching/server/database/sql/schema.sql"} <= names


def test_the_sdist_holds_what_the_wheel_is_made_of_and_no_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        tops = {name.split("/")[1] for name in sdist.getnames()}
    wanted = {"src", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"}
    assert tops - {".gitignore"} == wanted


def test_an_environment_has_the_python_that_it_is_called_after(version: str, bare: Bare) -> None:
    asked = bare.environment.run("python", "--version")
    assert asked.stdout.startswith(f"Python {version}.")


def test_a_bare_install_brings_the_official_package_and_nothing_else(bare: Bare) -> None:
    installed = bare.environment.installed()
    assert installed.pop("openaibatching")
    assert installed == bare.official


def test_a_bare_install_makes_the_call_of_the_readme(bare: Bare, batch_server: BatchServer) -> None:
    code = example("## The call").replace(ADDRESS, batch_server.url)
    call = ("python", "-W", "error", "-c", code)
    first = bare.environment.run(*call, BATCH_SERVER_API_KEY=batch_server.key)
    assert (first.stdout, first.stderr) == (PENDING, "")
    batch_server.finish()
    later = bare.environment.run(*call, BATCH_SERVER_API_KEY=batch_server.key)
    assert (later.stdout, later.stderr) == ("You said: Hello, world!\n", "")


def test_a_bare_install_runs_a_file_of_calls(
    bare: Bare, batch_server: BatchServer, tmp_path: Path
) -> None:
    batch_server.finish()
    source = write_jsonl(tmp_path / "in.jsonl", [input_line(f"{n}", f"line {n}") for n in range(3)])
    done = bare.environment.run(
        "openaibatching", "run", str(source), "-o", str(tmp_path / "out.jsonl"),
        BATCH_SERVER_URL=batch_server.url, BATCH_SERVER_API_KEY=batch_server.key,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said(tmp_path / "out.jsonl") == {f"{n}": f"You said: line {n}" for n in range(3)}


def test_a_bare_install_looks_at_a_server(bare: Bare, batch_server: BatchServer) -> None:
    done = bare.environment.run(
        "openaibatching", "status",
        BATCH_SERVER_URL=batch_server.url, BATCH_SERVER_API_KEY=batch_server.key,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "queued\tin_progress\tcompleted" in done.stdout


@pytest.mark.parametrize("command", ["serve", "demo", "simulate", "completion"])
def test_a_bare_install_says_in_one_line_what_a_command_needs(bare: Bare, command: str) -> None:
    done = bare.environment.run("openaibatching", command, OPENAI_API_KEY="sk-simulated")
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
        wait_ready(f"http://127.0.0.1:{port}", server, log)
        server.terminate()
        assert server.wait(timeout=DEADLINE_S) == 0
    finally:
        server.kill()
    assert re.search(r"^BATCH_SERVER_API_KEY=\S{32,}  \(kept in ", log.read_text(), re.MULTILINE)


def test_a_full_install_runs_the_demonstration(full: Environment) -> None:
    done = full.run("openaibatching", "demo")
    assert done.returncode == 0, done.stderr
    assert PENDING in done.stdout
    assert "You said: Hello, world!\n" in done.stdout
