"""What all of these commands share: their options, and how they end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from openaibatching import terminal
from openaibatching.cli.remote import address, formatting, screen
from openaibatching.cli.remote.api_client import Reply, Server
from openaibatching.cli.remote.exit_codes import (
    COULD_NOT,
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    SAID_NO,
    Away,
    CannotRun,
    SaidNo,
)
from openaibatching.cli.remote.page import Page, Table

Work = Callable[[Server, argparse.Namespace], int]

LIMIT, PAGE_MAX = 20, 100
"""How many a list shows if nothing is said, and how many the server gives at a time."""
KEY = (
    "BATCH_SERVER_API_KEY, from the environment only, is the server's key; "
    "BATCH_SERVER_API_KEY_FILE names a file that holds it."
)


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command that does one thing."""
    return terminal.Parser(
        prog=f"openaibatching {name}", description=description, epilog=f"{KEY} {EXIT_CODES}"
    )


def add_words(made: argparse.ArgumentParser) -> Any:
    """Where the words of a command are added (`requests list`, `requests show`, …)."""
    return made.add_subparsers(dest="word", metavar="word", required=True)


def asks(made: argparse.ArgumentParser, work: Work) -> None:
    """This one asks the server: it takes the common options, and does `work`."""
    address.add_to(made)
    made.add_argument("--json", action="store_true", help="print the API's own JSON")
    made.set_defaults(work=work)


def with_word(arguments: Sequence[str] | None) -> list[str]:
    """What is on the command line; where no word of the command is, it is `list`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        return ["list", *given]
    return given


def run(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Do what the command line says; the exit code."""
    options = made.parse_args(arguments)
    try:
        with closing(Server(*address.address(options.batch_server_url))) as server:
            work: Work = options.work
            code = work(server, options)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SaidNo as error:
        return fail(made, error, SAID_NO)
    except (CannotRun, Away) as error:
        return fail(made, error, COULD_NOT)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Members that are missing, or are something else.
        what = CannotRun(f"the server's reply is not understood: {type(error).__name__}: {error}")
        return fail(made, what, COULD_NOT)
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def fail(made: argparse.ArgumentParser, error: Exception, code: int) -> int:
    """Say why; the exit code."""
    terminal.say(f"{made.prog}: {error}")
    return code


def show(options: argparse.Namespace, reply: Reply, page: Callable[[dict[str, Any]], Page]) -> None:
    """A reply: as it is for scripts that want JSON, else the page made of it."""
    if options.json:
        terminal.out_json(reply.text.strip())
    else:
        screen.show(page(reply.data))


def add_list(words: Any, work: Work) -> argparse.ArgumentParser:
    """The word `list`, with what is common to all lists."""
    made: argparse.ArgumentParser = words.add_parser("list", help="the newest ones")
    made.add_argument(
        "--limit", type=at_least(1), default=LIMIT, metavar="N",
        help=f"so many at most; with --json there is a list for each {PAGE_MAX} [{LIMIT}]",
    )  # fmt: skip
    made.add_argument("--after", metavar="ID", help="those that are older than this one")
    asks(made, work)
    return made


def show_list(
    server: Server, options: argparse.Namespace, path: str,
    table: Callable[[list[dict[str, Any]]], Table], **query: object,
) -> int:  # fmt: skip
    """A list of the API, in as many replies as its limit takes; the exit code."""
    found: list[dict[str, Any]] = []
    after, left, more = options.after, options.limit, True
    while left > 0 and more:
        reply = server.get(path, limit=min(left, PAGE_MAX), after=after, **query)
        if options.json:
            terminal.out_json(reply.text.strip())
        found += reply.data["data"]
        left, more, after = left - PAGE_MAX, reply.data["has_more"], reply.data["last_id"]
    if not options.json:
        screen.show([table(found)])
    if more:
        terminal.say(f"There are more: --after {after}")
    return DONE


def time(text: str) -> float:
    """Reads a time of an option; Unix seconds."""
    try:
        return formatting.moment(text)
    except (ValueError, OverflowError, OSError):
        said = f"a time like 2026-11-28T17:00 or in Unix seconds, not {text!r}"
        raise argparse.ArgumentTypeError(said) from None


def at_least(least: int) -> Callable[[str], int]:
    """What reads a whole number of an option."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text[:9]) < least:
            raise argparse.ArgumentTypeError(f"a whole number from {least} on, not {text!r}")
        return int(text[:9])

    return number
