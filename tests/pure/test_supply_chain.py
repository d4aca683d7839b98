"""What the image is made of: locked by hash, as pyproject.toml allows, in closed services."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from openaibatching.server.database.requirements import is_exposed
from support.source import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
# Their images start as root and become another user, or have the capability on their program.
WITH_CAPABILITIES = {"postgres", "proxy"}


def locked(name: str) -> dict[str, tuple[str, int]]:
    """{package: (version, how many hashes)} of a lock file."""
    text = (ROOT / "deploy" / name).read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)(.*)$", text, re.MULTILINE)
    return {package: (version, rest.count("--hash=sha256:")) for package, version, rest in found}


def named(wanted: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in wanted]


def test_the_lock_of_the_image_is_what_pyproject_asks_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = named([*PROJECT["project"]["dependencies"], *extras["server"], *extras["otel"]])
    there = locked("requirements.lock")
    wrong = [
        str(requirement)
        for requirement in wanted
        if requirement.name not in there
        or not requirement.specifier.contains(there[requirement.name][0])
    ]
    assert wrong == [], "run: make lock"
    assert len(there) > len(wanted)
    build = locked("build.lock")
    assert [str(r) for r in named(PROJECT["build-system"]["requires"]) if r.name not in build] == []
    source = (ROOT / "deploy" / "build.in").read_text("utf-8").splitlines()
    assert source[1:] == PROJECT["build-system"]["requires"]


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_each_package_is_locked_by_its_hashes_and_by_no_place(name: str) -> None:
    there = locked(name)
    assert there
    assert [package for package, (_, hashes) in there.items() if not hashes] == []
    assert "://" not in (ROOT / "deploy" / name).read_text("utf-8")


def test_the_image_installs_nothing_but_what_is_locked() -> None:
    installs = re.findall(r"pip\b[^&\n]*? (?:install|wheel) [^&\n]*", DOCKERFILE)
    assert len(installs) == 4
    for command in installs:
        is_ours = "--no-deps" in command
        is_closed = "--no-build-isolation" in command or command.rstrip().endswith("/wheel/*.whl")
        assert ("--require-hashes" in command) != (is_ours and is_closed), command


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_read_only_and_has_no_capabilities(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ("cap_add" in service) == (name in WITH_CAPABILITIES)


@pytest.mark.parametrize(
    ("host", "address", "encrypted", "exposed"),
    [
        ("db.example.com", "203.0.113.7", False, True),
        ("db.example.com", "203.0.113.7", True, False),
        ("db", "172.18.0.2", False, True),
        ("2001:db8::1", "2001:db8::1", False, True),
        ("link", "fe80::1%eth0", False, True),
        ("localhost", "127.0.0.1", False, False),
        ("localhost", "::1", False, False),
        ("/var/run/postgresql", "", False, False),
        ("@abstract", "", False, False),
    ],
)
def test_a_plain_connection_is_told_where_others_may_listen(
    *, host: str, address: str, encrypted: bool, exposed: bool
) -> None:
    assert is_exposed(host, address, encrypted=encrypted) is exposed
