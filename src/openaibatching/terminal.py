"""What commands write: the one place where texts of others are made harmless to a terminal.

A model's name, an error of a server, an argument: each may have characters in it that move a
cursor, forge a line or turn the reading order around. Imports nothing of the other parts.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from typing import NoReturn, TextIO

# A character outside of ASCII that is no letter, digit, sign or space to be seen, and DEL. Of JSON
# these stand in texts only, where an escape means the same.
_HIDDEN_IN_JSON = re.compile(r"[^\t\n\r -~]")


def clean(text: object) -> str:
    """One line without control characters: spaces for what is space, U+FFFD for the others."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"
        for c in str(text)
    )


def _clean_lines(text: str) -> str:
    """The same, with line ends and tabs as they are: ours, between cells and lines."""
    return "\n".join("\t".join(map(clean, line.split("\t"))) for line in text.split("\n"))


def clean_json(text: str) -> str:
    """The same JSON, in which what cannot be printed is escaped."""
    return _HIDDEN_IN_JSON.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


def prepare() -> None:
    """What a terminal's encoding has not is written as "?", and is no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def out(text: str = "") -> None:
    """Lines of ours on stdout; of cells in them, tabs and line ends have been taken by `clean`."""
    _write(_clean_lines(text), sys.stdout)


def out_json(text: str) -> None:
    """JSON on stdout, whoever has written it."""
    _write(clean_json(text), sys.stdout)


def say(text: object) -> None:
    """One line on stderr, beside what a script reads."""
    _write(clean(text), sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    print(text, file=stream, flush=True)


class Parser(argparse.ArgumentParser):
    """A parser whose errors quote arguments harmlessly."""

    def error(self, message: str) -> NoReturn:
        """See ArgumentParser."""
        super().error(clean(message))
