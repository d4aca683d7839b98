"""The `openaibatching` command: which word runs what."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from openaibatching import terminal

CANNOT, INTERRUPTED = 2, 130
NEEDS_SERVER = "this command needs the server: pip install 'openaibatching[server]'"


@dataclass(frozen=True)
class Command:
    """What a command does, and its module, in which `parser()` says what it takes and
    `main(arguments)` does it and gives the exit code."""

    help: str
    module: str

    def load(self) -> Any:
        """Its module: none is imported before it is asked for."""
        return import_module(f"openaibatching.{self.module}")


COMMANDS = {
    "serve": Command("run the service", "cli.serve"),
    "run": Command(
        "send a batch input file to the service, and get its answers", "cli.run.command"
    ),
    "status": Command("what waits and why, what is under way, what it cost", "cli.remote.status"),
    "requests": Command("list, show, retry or cancel requests", "cli.remote.requests"),
    "batches": Command("list or show batches", "cli.remote.batches"),
    "flush": Command("send what is queued now", "cli.remote.flush"),
    "cost": Command("tokens, what was paid and what was saved", "cli.remote.cost"),
    "keys": Command("make, list, rotate and revoke the keys of callers", "cli.keys.command"),
    "audit": Command(
        "who signed in, changed keys, deleted, cancelled or flushed", "cli.keys.audit"
    ),
    "simulate": Command("run OpenAI's side alone, for trying and testing", "simulator.command"),
    "demo": Command("server, database and simulator at once: one call, answered", "cli.demo"),
    "completion": Command("print what makes a shell complete these commands", "cli.completion"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    terminal.prepare()
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        parser = tree()
        parser.parse_args(arguments)
        parser.error("the command comes first")
    try:
        code: int = command.load().main(arguments[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openaibatching"):
            return _failed(arguments[0], error)
        terminal.say(f"openaibatching: {NEEDS_SERVER} ({error.name} is not installed)")
        return CANNOT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(arguments[0], error)
    return code


def _failed(command: str, error: Exception) -> int:
    """One line for what no command has a word for: of the system its own, else a mistake of ours
    and where it is."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        terminal.say(f"openaibatching {command}: {where}{error.strerror}")
        return CANNOT
    place = traceback.extract_tb(error.__traceback__)[-1]
    terminal.say(
        f"openaibatching {command}: a mistake of this program, please report it: "
        f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
    )
    return CANNOT


def tree(*, whole: bool = False) -> argparse.ArgumentParser:
    """What the command line takes; the whole of it with what each command takes."""
    parser = terminal.Parser(
        prog="openaibatching",
        description="OpenAI's half-price Batch API behind the ordinary call.",
    )
    parser.add_argument("--version", action="version", version=version("openaibatching"))
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        own = [command.load().parser()] if whole else []
        commands.add_parser(name, help=command.help, parents=own, add_help=not own)
    return parser
