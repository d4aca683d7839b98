"""`openaibatching completion`: what a shell needs to complete the commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import shtab

from openaibatching import terminal
from openaibatching.cli import main as cli_main

SHELLS = ("bash", "zsh", "fish")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the script; the exit code."""
    shell = parser().parse_args(arguments).shell
    terminal.out(shtab.complete(cli_main.tree(whole=True), shell))
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = terminal.Parser(
        prog="openaibatching completion",
        description="Print a script that makes a shell complete these commands, their words and "
        'options. In ~/.bashrc or ~/.zshrc: eval "$(openaibatching completion bash)" (or zsh).',
    )
    made.add_argument("shell", choices=SHELLS)
    return made
