"""Windows of lines, asked again and again until all are answered.

The first time a line is asked, the server takes it, and the reply comes at once. Later it is asked
with a hold, and answered as soon as it has finished. What a window leaves open is asked again when
its turn comes, among others: so no line that takes long stands before another.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from time import monotonic

from openaibatching.cli.remote.exit_codes import Away, CannotRun
from openaibatching.cli.run.bulk_client import BatchServer
from openaibatching.cli.run.input_file import InputFile
from openaibatching.cli.run.input_lines import read_line
from openaibatching.cli.run.line_state import OPEN, State
from openaibatching.cli.run.output_file import OutputFile
from openaibatching.cli.run.output_lines import Answer, read_answer
from openaibatching.cli.run.progress import Progress
from openaibatching.client.waiting import Hold

WINDOWS_AT_ONCE = 4
LINES_MAX, BYTES_MAX = 10_000, 16_000_000
"""What one window holds at most, unless it is a single line."""
CHUNK_BYTES = 128_000
HOLD_S_MIN, HOLD_S_MAX = 10, 300
BACKOFF_S_MAX = 30.0
_dice = random.Random()  # noqa: S311 - spreading load, not guarding secrets


def hold_s(age_s: float, unfinished: int) -> int:
    """How long a window is held in a run of that age with so many lines left.

    Short at first, when answers may come any minute; later longer, because with each round all
    lines are sent again. The more windows there are, the shorter: all shall have had their turn
    when a fair part of the run's age has passed once more.
    """
    windows = max(1.0, unfinished / LINES_MAX)
    return int(min(HOLD_S_MAX, max(HOLD_S_MIN, age_s / windows)))


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(BACKOFF_S_MAX, 0.25 * 2.0 ** min(failures, 10)) * _dice.uniform(0.8, 1.0)


class Rounds:
    """A run from its first window to its last."""

    def __init__(
        self, server: BatchServer, lines: InputFile, output: OutputFile, progress: Progress
    ) -> None:
        self._server, self._lines, self._output = server, lines, output
        self._progress = progress
        self._started = monotonic()

    async def run(self) -> None:
        """Until every line is answered. Raises CannotRun."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WINDOWS_AT_ONCE):
                    group.create_task(self._work())
        except* CannotRun as errors:
            raise errors.exceptions[0] from None

    async def _work(self) -> None:
        """One window after the other. None is left when the others have all of them in hand."""
        failures = 0
        while True:
            state, window = self._lines.take(LINES_MAX, BYTES_MAX)
            if not window:
                return
            try:
                pause_s = await self._ask(window, held=state != State.NEW)
                failures = 0
                self._progress.all_is_well()
            except Away as error:
                failures += 1
                pause_s = backoff_s(failures)
                self._progress.trouble(str(error))
            finally:
                self._lines.give_back(window)
            await asyncio.sleep(pause_s)

    async def _ask(self, window: Sequence[int], *, held: bool) -> float:
        """Ask once, and keep what comes; how many seconds to pause before the next window."""
        hold = Hold(monotonic(), hold_s(monotonic() - self._started, self._lines.unfinished))
        reading = _Reading(self._lines, window, held=held)
        async with self._server.ask(self._content(window), hold.seconds if held else 0) as reply:
            async for texts in reply.portions:
                self._output.add(reading.final(texts))
                if reading.broken:
                    break
        reading.check()
        open_still = any(self._lines.state(line) in OPEN for line in window)
        return hold.pause(reply.headers, monotonic()) if held and open_still else 0.0

    async def _content(self, window: Sequence[int]) -> AsyncIterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for line in window:
            text = self._lines.request(line)
            parts += (text, b"\n")
            size += len(text)
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join(parts)


class _Reading:
    """The answers to a window as they come in: in its order, or in any when they were held."""

    def __init__(self, lines: InputFile, window: Sequence[int], *, held: bool) -> None:
        self._lines, self._window, self._held = lines, window, held
        self._left = set(window)
        self._not_now = 0
        self.broken = False
        """Whether a line came that is no answer to one of these."""

    def final(self, texts: Sequence[bytes]) -> list[Answer]:
        """Note what these output lines say; those that are final, up to the first broken one."""
        final = []
        for text in texts:
            try:
                answer = read_answer(text)
                line = self._line_of(answer)
                self._left.remove(line)
            except (ValueError, LookupError):
                self.broken = True
                break
            if answer.state == State.NEW:
                self._not_now += 1
                continue
            self._lines.move(line, answer.state)
            if answer.state not in OPEN:
                known = answer.name is not None
                final.append(
                    answer if known else answer.named(read_line(self._lines.read(line)).name)
                )
        return final

    def _line_of(self, answer: Answer) -> int:
        """The line that is answered. The server does not name one that is too long for it, which
        its place in the order then tells."""
        line = None if answer.name is None else self._lines.find(answer.name)
        if not self._held:
            expected = self._window[len(self._window) - len(self._left)]
            line = expected if answer.name is None else line
            if line != expected:
                raise LookupError
        elif answer.name is None:
            for left in self._left:  # to be asked in their order
                self._lines.move(left, State.NEW)
        if line is None:
            raise LookupError
        return line

    def check(self) -> None:
        """Raises Away if not all were answered."""
        if self.broken:
            raise Away("the server's reply has a line that is none of ours")
        if self._left:
            raise Away("the server's reply ended too early")
        if self._not_now:
            raise Away(f"the server cannot take {self._not_now:,} lines at the moment")
