"""How far a run is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, Protocol

from openaibatching import terminal
from openaibatching.cli.remote.formatting import duration
from openaibatching.cli.run.input_file import InputFile
from openaibatching.cli.run.line_state import OPEN, State

LOOK_S = 0.5
LINE_S = 10.0
"""Where there is no bar: so long at least from one line to the next."""


def eta(finished_before: int, finished: int, total: int, elapsed_s: float) -> str:
    """How much longer at the pace so far; nothing while there is none."""
    done, left = finished - finished_before, total - finished
    if done <= 0 or left <= 0:
        return ""
    return f"about {duration(elapsed_s * left / done)} left"


def described(counts: Sequence[int]) -> str:
    """How far the lines are; `counts` by State."""
    done, failed, in_batches = counts[State.DONE], counts[State.FAILED], counts[State.IN_BATCH]
    accepted = sum(counts[state] for state in OPEN) + done + failed
    return f"{accepted:,} accepted, {in_batches:,} in batches, {done:,} done, {failed:,} failed"


class Screen(Protocol):
    """Where a run is shown."""

    def show(self, finished: int, text: str, left: str, *, ended: bool) -> None:
        """So many lines are finished; `text` says more, and `left` how long it will take."""

    def say(self, text: str) -> None:
        """One line."""


class Lines:
    """No terminal: lines on stderr, when something has changed."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._next_at, self._shown = 0.0, ""

    def show(self, finished: int, text: str, left: str, *, ended: bool) -> None:
        """See Screen."""
        now = monotonic()
        if (now < self._next_at and not ended) or text == self._shown:
            return
        self._next_at, self._shown = now + LINE_S, text
        percent = 100 * finished // max(1, self._total)
        self.say(", ".join(filter(None, (f"{percent} % of {self._total:,} lines: {text}", left))))

    def say(self, text: str) -> None:
        """See Screen."""
        terminal.say(text)


class Bar:
    """A terminal, drawn upon by rich."""

    def __init__(self, drawn: Any, total: int) -> None:
        self._drawn = drawn
        self._task = drawn.add_task("", total=total, left="")

    def show(self, finished: int, text: str, left: str, *, ended: bool) -> None:
        """See Screen."""
        self._drawn.update(self._task, completed=finished, description=text, left=left)

    def say(self, text: str) -> None:
        """See Screen."""
        self._drawn.console.print(terminal.clean(text), markup=False, highlight=False)


class Progress:
    """What a run tells while it goes on."""

    def __init__(self, screen: Screen, lines: InputFile) -> None:
        self._screen, self._lines = screen, lines
        self._started, self._finished_before = monotonic(), self._finished()
        self._trouble = False

    def _finished(self) -> int:
        return self._lines.total - self._lines.unfinished

    def show(self, *, ended: bool = False) -> None:
        """How far it is."""
        finished, elapsed_s = self._finished(), monotonic() - self._started
        left = eta(self._finished_before, finished, self._lines.total, elapsed_s)
        self._screen.show(finished, described(self._lines.counts), left, ended=ended)

    def trouble(self, text: str) -> None:
        """Something is in the way, and is tried again; said once until all is well."""
        if not self._trouble:
            self._screen.say(f"{text}: trying again until it works")
        self._trouble = True

    def all_is_well(self) -> None:
        """The trouble is over, if there was any."""
        if self._trouble:
            self._screen.say("The batch server answers again")
        self._trouble = False


@contextmanager
def screen(total: int) -> Iterator[Screen]:
    """A bar where stderr is a terminal and `rich` is installed (the server brings it)."""
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    try:
        from rich import console, progress
    except ModuleNotFoundError:
        yield Lines(total)
        return
    columns = (
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.description}"),
        progress.TextColumn("{task.fields[left]}"),
    )
    with progress.Progress(*columns, console=console.Console(stderr=True)) as drawn:
        yield Bar(drawn, total)


@asynccontextmanager
async def shown(screen: Screen, lines: InputFile) -> AsyncIterator[Progress]:
    """The progress of a run, shown now and then, and at the end."""
    progress = Progress(screen, lines)

    async def look() -> None:
        while True:
            progress.show()
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield progress
    finally:
        looking.cancel()
        progress.show(ended=True)
