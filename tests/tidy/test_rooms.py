"""The house rules of the code: who imports whom, and how long things are."""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import tomllib
from importlib.metadata import packages_distributions

import pytest

from support import source
from support.source import PACKAGE, ROOT, SERVER, read, run

# The rooms of the server, left to right: a room imports only rooms to its left. What a room is for
# stands in its `__init__.py`.
ROOMS = (
    "errors", "domain", "config", "telemetry", "database", "auth", "billing", "providers",
    "requests", "pipeline", "reporting", "api", "dashboard", "renewal", "app",
)  # fmt: skip

# The steps of a batch. None imports another: the database is their only channel.
STEPS = ("form", "submit", "watch", "refused", "collect", "cleanup")

# What server and commands share; needs nothing of either.
SHARED = {"openaibatching.secret_file", "openaibatching.surroundings", "openaibatching.terminal"}

FILE_LINES_MAX, FILE_LINES_MEDIAN_MAX, FUNCTION_LINES_MAX = 400, 150, 70
PYTHON_FILES = sorted(
    path for folder in ("src", "tests", "examples") for path in (ROOT / folder).rglob("*.py")
)
TYPESCRIPT_FILES = sorted(
    path
    for folder in ("src", "tests", "scripts")
    for path in (ROOT / "clients" / "typescript" / folder).iterdir()
)


def room_of(module: str) -> str:
    """The room of a module of the server, or the module itself where it stands in none."""
    return module.removeprefix("openaibatching.server.").split(".")[0]


def test_every_folder_of_the_server_is_a_room_that_says_what_it_is_for() -> None:
    there = {path.relative_to(SERVER).parts[0].removesuffix(".py") for path in SERVER.rglob("*.py")}
    assert there - {"__init__"} == set(ROOMS)
    silent = [path for path in SERVER.rglob("__init__.py") if not path.read_text("utf-8").strip()]
    assert silent == []


def test_a_room_imports_only_rooms_to_its_left() -> None:
    wrong = []
    for path in sorted(SERVER.rglob("*.py")):
        room = path.relative_to(SERVER).parts[0].removesuffix(".py")
        for imported in source.imports(path):
            other = room_of(imported)
            if imported.startswith("openaibatching.server.") and other != room:
                if ROOMS.index(other) > ROOMS.index(room):
                    wrong.append(f"{path.relative_to(SERVER)} imports {imported}")
            elif not imported.startswith("openaibatching.server") and imported not in SHARED:
                wrong.append(f"{path.relative_to(SERVER)} imports {imported}")
    assert wrong == []


def test_no_files_of_the_server_import_each_other_in_a_circle() -> None:
    imports = {source.name_of(path): source.imports(path) for path in SERVER.rglob("*.py")}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the files


def test_no_file_imports_what_another_one_keeps_to_itself() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {alias.name} of {node.module}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("openaibatching")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert wrong == []


def test_no_step_imports_another() -> None:
    steps = {f"openaibatching.server.pipeline.{step}" for step in STEPS}
    wrong = [
        f"{step} imports {imported}"
        for step in STEPS
        for imported in source.imports(SERVER / "pipeline" / f"{step}.py") & steps
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("simulator", ("cli", "client", "server", "types")),
        ("client", ("cli", "server", "simulator")),
        ("cli/remote", ("server", "simulator")),
        ("cli/run", ("server", "simulator")),
        ("server", ("cli", "client", "simulator")),
        ("types.py", ("cli", "client", "server", "simulator")),
    ],
)
def test_the_simulator_and_the_client_stand_alone(part: str, forbidden: tuple[str, ...]) -> None:
    files = [PACKAGE / part] if part.endswith(".py") else sorted((PACKAGE / part).rglob("*.py"))
    assert files
    wrong = [
        f"{path.name} imports {imported}"
        for path in files
        for imported in source.imports(path)
        if imported.split(".")[1:2] and imported.split(".")[1] in forbidden
    ]
    assert wrong == []


def test_the_rooms_of_the_simulator_import_in_one_direction() -> None:
    rooms = ("faults", "engine", "api")
    wrong = [
        f"{room}/{path.name} imports {imported}"
        for place, room in enumerate(rooms)
        for path in sorted((PACKAGE / "simulator" / room).rglob("*.py"))
        for imported in source.imports(path)
        if imported.startswith("openaibatching.simulator.")
        and imported.split(".")[2] not in rooms[: place + 1]
    ]
    assert wrong == []


def test_a_bare_import_needs_nothing_but_the_official_package() -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["server"]
    wanted = {re.split(r"[\[<>=;]", line)[0].replace("-", "_").lower() for line in extras}
    of_the_server = {
        module
        for module, distributions in packages_distributions().items()
        if wanted & {name.replace("-", "_").lower() for name in distributions}
    }
    assert len(of_the_server) >= len(wanted) - 1  # uvloop and httptools are not everywhere
    imported = run("-c", "import sys, openaibatching; print(*sys.modules)")
    assert imported.returncode == 0, imported.stderr
    found = imported.stdout.split()
    assert [m for m in found if m.split(".")[0] in of_the_server] == []
    assert [m for m in found if m.startswith(("openaibatching.server", "openaibatching.sim"))] == []


def test_files_are_short() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in [*PYTHON_FILES, *TYPESCRIPT_FILES, *PACKAGE.rglob("*.sql")]
    }
    assert {name: n for name, n in lines.items() if n > FILE_LINES_MAX} == {}
    assert statistics.median(lines.values()) < FILE_LINES_MEDIAN_MAX


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {name}": lines
        for path in PYTHON_FILES
        for name, lines in source.functions(path)
        if lines >= FUNCTION_LINES_MAX
    }
    assert long == {}
