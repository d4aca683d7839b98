"""`openaibatching run`: the command line, and how each run ends."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from openaibatching import terminal
from openaibatching.cli.remote import address
from openaibatching.cli.remote.exit_codes import CannotRun
from openaibatching.cli.run.bulk_client import BatchServer
from openaibatching.cli.run.input_file import InputFile
from openaibatching.cli.run.line_state import State
from openaibatching.cli.run.output_file import OutputFile
from openaibatching.cli.run.progress import screen, shown
from openaibatching.cli.run.rounds import Rounds

ALL_SUCCEEDED, SOME_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        url, key = address.address(options.batch_server_url)
        with closing(InputFile(options.input)) as lines:
            lines.index()
            try:
                asyncio.run(_answer(lines, options.output, url, key, again=options.again))
            except (KeyboardInterrupt, asyncio.CancelledError):
                finished = lines.total - lines.unfinished
                terminal.say(
                    f"Interrupted: {finished:,} of {lines.total:,} lines are answered in "
                    f"{options.output}. The same command goes on from there."
                )
                return INTERRUPTED
            return _summed_up(lines, options.output)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CannotRun as error:
        terminal.say(f"openaibatching run: {error}")
        return COULD_NOT_RUN


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = terminal.Parser(
        prog="openaibatching run",
        description="Send a batch input file to a batch server, and write the answers as they "
        "come, in whatever order. Run it again after an interruption, and it goes on: what is in "
        "the output file is not asked again. Lines with equal bodies are so many samples.",
        epilog="BATCH_SERVER_API_KEY, from the environment only, is the server's key; "
        "BATCH_SERVER_API_KEY_FILE names a file that holds it. The exit "
        "code is 0 if all lines succeeded, 1 if some failed, 2 if the run could not begin or go "
        "on, 130 if it was interrupted.",
    )
    made.add_argument(
        "input", type=Path, metavar="in.jsonl",
        help='batch input lines: {"custom_id", "method": "POST", "url": "/v1/…", "body": {…}}',
    )  # fmt: skip
    made.add_argument(
        "-o", "--output", type=Path, required=True, metavar="out.jsonl",
        help="where the batch output lines are added",
    )  # fmt: skip
    made.add_argument(
        "--again", action="store_true",
        help="ask lines anew that have changed since their response was written, and replace it",
    )  # fmt: skip
    address.add_to(made)
    return made


async def _answer(lines: InputFile, output: Path, url: str, key: str, *, again: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with BatchServer(url, key) as server:
        await server.check()
        with closing(OutputFile(output, lines)) as answers, screen(lines.total) as screen_:
            if unrecorded := answers.take_up(again=again):
                screen_.say(
                    f"{unrecorded:,} responses in {output} have no record of what was asked: "
                    "they are kept, and what they answer is taken to be unchanged"
                )
            async with shown(screen_, lines) as progress:
                await Rounds(server, lines, answers, progress).run()


def _summed_up(lines: InputFile, output: Path) -> int:
    failed = lines.counts[State.FAILED]
    if not failed:
        terminal.out(f"All {lines.total:,} lines succeeded: {output}")
        return ALL_SUCCEEDED
    terminal.out(
        f"{failed:,} of {lines.total:,} lines failed: in {output} they have a status_code of 400 "
        "or more, and say why."
    )
    return SOME_FAILED
