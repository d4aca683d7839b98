"""The project's own source, read as data: what the house rules are checked on."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "openaibatching"
SERVER = PACKAGE / "server"


def read(name: str) -> str:
    """A file of the project, by its path from the root."""
    return (ROOT / name).read_text("utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """This Python with these arguments, on a terminal of 100 columns."""
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, check=False
    )


Transition = tuple[str, str | None, str]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def name_of(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(under: Path = PACKAGE) -> dict[str, Path]:
    """{dotted name: file} of every module below a folder of the package."""
    return {name_of(path): path for path in sorted(under.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    known = modules()
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from package import module` names a module, `from module import name` does not.
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update((inner & known.keys()) or {node.module})
    return found & known.keys()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def texts(path: Path) -> Iterator[str]:
    """Every text and every piece of an f-string of a file, docstrings excepted."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("utf-8", "replace")


def queries_asked_for(path: Path) -> Iterator[str]:
    """The names of queries that a file runs: `execute(conn, "name"`, `QUERIES["name"]`, …"""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called),
                args=[_, ast.Constant(value=str(name)), *_],
            ) if called in ("execute", "value"):
                yield name
            # BatchWrites, whose statements all prove the lease.
            case ast.Call(
                func=ast.Attribute(attr="_write"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.Subscript(value=ast.Name("QUERIES"), slice=ast.Constant(value=str(name))):
                yield name


def transitions_in_sql(text: str) -> dict[str, set[Transition]]:
    """{query: the transitions that its `-- noun: a -> b` comments name}."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {
        name: {
            (noun, None if old == "(none)" else old, new)
            for noun, old, new in re.findall(r"^-- (\w+): (\S+) -> (\S+)$", body, re.MULTILINE)
        }
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def transitions_in_diagrams(text: str) -> set[Transition]:
    """Every arrow of the state diagrams, each of which is headed `%% noun`."""
    diagram = r"^```mermaid\nstateDiagram-v2\n%% (\w+)\n(.*?)^```"
    diagrams = re.findall(diagram, text, re.MULTILINE | re.DOTALL)
    return {
        (noun, None if old == "[*]" else old, new)
        for noun, body in diagrams
        for old, new in re.findall(r"^\s*(\S+) --> (\w+)", body, re.MULTILINE)
    }


def states_in_schema(text: str, table: str) -> tuple[str, ...]:
    """The states that a table's CHECK allows, in order."""
    body = re.search(rf"^create table {table} \((.*?)^\);", text, re.MULTILINE | re.DOTALL)
    assert body, f"no table {table}"
    check = re.search(r"check \(state in \(([^)]*)\)", body[1])
    assert check, f"no check of the state in {table}"
    return tuple(re.findall(r"'(\w+)'", check[1]))


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of a Markdown page, without its head."""
    _, found, below = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    table = re.search(r"^\|.*\n\|[-| :]+\n((?:\|.*\n)+)", below, re.MULTILINE)
    assert table, f"no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def events(path: Path) -> Iterator[str]:
    """The names of events that a file logs: `log.warning("name", …)`."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name("log")), args=[ast.Constant(value=str(name))]
            ):
                yield name


def first_column(text: str, heading: str, pattern: str) -> set[str]:
    """What matches `pattern` in the first cells of all tables of a Markdown page's chapter."""
    _, found, below = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    chapter = re.split(r"^## ", below, maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`.*?) \|", chapter, re.MULTILINE)
    return {name for cell in cells for name in re.findall(pattern, cell)}
