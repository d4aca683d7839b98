"""The code blocks of README and of the pages, and what becomes of each in a test.

A `console` block is run command by command, and what it shows is compared. A `python` block is
run; a `text` block right below is what it printed. Two of them are what it printed at first and
later, when OpenAI had finished. A `python` block whose first line names a file (`# evals.py`) is
saved under that name, for a command to run. `sql` is sent to the database, `json` has to be JSON.
What is not run is in `NOT_RUN`. `ts` is compiled and run by the TypeScript client's own tests.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

from support.source import ROOT

PAGES = (
    "README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")),
    "clients/typescript/README.md",
)

# The start of a command, or of a block, and why it is not run here.
NOT_RUN = {
    "pip install": "tests/distribution/ installs the wheel, bare and with [server]",
    "npm install": "clients/typescript/scripts/test.mjs installs the package from its tarball",
    "docker ": "no engine here; tests/image/ builds this image and runs it",
    "OTEL_EXPORTER_OTLP_ENDPOINT=": "names no collector; tests/flow/test_tracing.py has one",
    "POST /summaries": "a picture",
    "promtool ": "tests/pure/test_monitoring.py runs it where it is installed",
    "curl --cacert": "asks the containers; tests/image/check_proxy.py does",
    "            ┌─────": "a picture",
    "Queue\nmodel ": "a picture of a terminal; tests/flow/test_command_line.py looks at one",
    "2026-11-24T14:58:07": "a log line by itself; those of `serve` are compared in README",
}
# Whole pages (if they are there) whose blocks have tests of their own.
ELSEWHERE = {"docs/any-sdk.md": "the SDKs of other languages have tests of their own"}
# Programs that a page may need besides our own, and that a small machine may lack.
PROGRAMS = ("curl", "openssl")

FILE = re.compile(r"^(?:#|//) ([\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Command:
    """One command of a `console` block, and the output that the page shows below it."""

    line: int
    text: str
    shown: str


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is that of its first line."""

    page: str
    line: int
    language: str
    text: str
    printed: tuple[str, ...] = field(default=())
    """The `text` blocks right below a program: what it printed at first, and later."""

    def file(self) -> str | None:
        """The name under which the page says that it is saved."""
        found = FILE.match(self.text)
        return found[1] if found else None

    def commands(self) -> list[Command]:
        """The commands at the prompts of a `console` block, each with all of its lines."""
        found: list[Command] = []
        lines = self.text.splitlines()
        position = 0
        while position < len(lines):
            start = position
            assert lines[position].startswith("$ "), f"no prompt: {lines[position]!r}"
            command = lines[position].removeprefix("$ ")
            position += 1
            while position < len(lines) and is_open(command):
                command += "\n" + lines[position]
                position += 1
            shown = []
            while position < len(lines) and not lines[position].startswith("$ "):
                shown.append(lines[position])
                position += 1
            found.append(Command(self.line + start, command, "\n".join(shown)))
        return found


def is_open(command: str) -> bool:
    """Whether a shell would read another line before it runs this."""
    document = re.search(r"<<\s*'?(\w+)'?", command)
    if document:
        return not re.search(rf"\n{document[1]}$", command)
    quotes = re.sub(r"\\.", "", command)
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", quotes)
    return command.endswith("\\") or bool(re.search("['\"]", unquoted))


def reason(text: str) -> str | None:
    """Why a command or block is not run, if it is not."""
    return next((why for start, why in NOT_RUN.items() if text.startswith(start)), None)


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """All blocks of a page in order, each program with what it printed."""
    found: list[Block] = []
    previous_is_program = False
    for token in MarkdownIt().parse((ROOT / page).read_text("utf-8")):
        if token.type not in ("fence", "code_block"):
            # A sentence may stand between a program and its output, a heading ends that.
            previous_is_program = previous_is_program and token.type != "heading_open"
            continue
        assert token.map
        language = token.info.strip()
        if language == "text" and previous_is_program:
            program = found.pop()
            printed = (*program.printed, token.content)
            found.append(Block(page, program.line, program.language, program.text, printed))
            continue
        found.append(Block(page, token.map[0] + 2, language, token.content))
        previous_is_program = language in ("python", "ts")
    return tuple(found)


def missing_programs(page: str) -> list[str]:
    """What the page's commands need and this machine has not."""
    commands = "\n".join(block.text for block in blocks(page) if block.language == "console")
    needed = [name for name in PROGRAMS if re.search(rf"^\$ .*\b{name} ", commands, re.MULTILINE)]
    return [name for name in needed if shutil.which(name) is None]


def save(block: Block, folder: Path, text: str) -> None:
    """Put a block where the page says that it is saved."""
    name = block.file()
    assert name
    (folder / name).write_text(text, "utf-8")
