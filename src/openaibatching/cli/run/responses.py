"""The responses that an earlier run has left: which of them stand, and which line each answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openaibatching.cli.remote.exit_codes import CannotRun
from openaibatching.cli.run.hashes import Hashes
from openaibatching.cli.run.input_file import InputFile
from openaibatching.cli.run.input_lines import read_line
from openaibatching.cli.run.line_state import State
from openaibatching.cli.run.output_lines import Answer, read_answer
from openaibatching.cli.run.record import Recorded

_ID_BITS = (1 << 64) - 1


class Rows:
    """The judgement of an output file's rows, one after the other.

    A row stands if it answers what its line asks now. A row whose line has changed since is dropped
    where `again` says so; else `refuse` raises CannotRun. Rows of bad lines, which have no
    custom_id, stand as long as they are those of the bad lines that there are.
    """

    def __init__(self, output: Path, lines: InputFile, recorded: Recorded, *, again: bool) -> None:
        self._output, self._lines, self._recorded, self._again = output, lines, recorded, again
        self._number = 0
        self._ids = Hashes()  # of the rows without a record
        self._bad = self._bad_answers()
        self._next_bad = next(self._bad, None)
        self._changed = 0
        self._first_changed = ""
        self.unrecorded = 0
        """How many of those that stand have no record of what was asked."""

    def stands(self, text: bytes) -> bool:
        """Judge the next row, and move its line if it stands. Raises CannotRun if it is none of
        ours: nobody's file is harmed by mistake."""
        self._number += 1
        try:
            answer = read_answer(text)
        except ValueError:
            raise self.not_ours(self._number) from None
        if answer.name is None:
            return self._bad_stands(text)
        line = self._lines.find(answer.name)
        if line is None:
            raise CannotRun(
                f"{self._output}, line {self._number}, answers {answer.name!r}, which "
                f"{self._lines.path} does not ask: name another file"
            )
        if answer.state not in (State.DONE, State.FAILED):
            raise self.not_ours(self._number)
        why = self._why_not(line, answer)
        if why is not None:
            self._changed += 1
            self._first_changed = self._first_changed or (
                f"{self._lines.path}, line {line + 1}: {why.format(repr(answer.name))}"
            )
            return False
        self._lines.move(line, answer.state)
        if not self._recorded.sample(line):
            self._lines.is_plain(line)
        return True

    def not_ours(self, number: int) -> CannotRun:
        """What is said of a row, counted from 1, that no run has written."""
        return CannotRun(
            f"{self._output}, line {number}, is no final batch output line: name another file"
        )

    def refuse(self) -> None:
        """Raises CannotRun if a line has changed since its row was written, unless it is to be
        asked again."""
        if self._changed and not self._again:
            raise CannotRun(
                f"{self._first_changed} ({self._changed:,} such lines): --again asks them anew "
                f"and replaces their responses in {self._output}"
            )

    def bad_answers_left(self) -> Iterator[tuple[int, bytes]]:
        """(line, row) of the bad lines that have no row yet, or none that stands."""
        while self._next_bad is not None:
            yield self._next_bad
            self._next_bad = next(self._bad, None)

    def _why_not(self, line: int, answer: Answer) -> str | None:
        """Why a row does not answer what its line asks now."""
        recorded = self._recorded.fingerprint(line)
        if recorded:
            changed = recorded != self._lines.fingerprint(line)
            return "what {} asks has changed since its response was written" if changed else None
        self.unrecorded += 1
        if answer.id is None or self._ids.add(hash(answer.id) & _ID_BITS) is None:
            return None
        if read_line(self._lines.read(line)).own_key:
            return None
        self.unrecorded -= 1
        return "{} is one of several samples, and has the response of another one"

    def _bad_answers(self) -> Iterator[tuple[int, bytes]]:
        for line, error in self._lines.bad_lines():
            yield line, error.answer(line + 1)

    def _bad_stands(self, text: bytes) -> bool:
        if self._next_bad is None or self._next_bad[1] != text:
            return False
        self._lines.move(self._next_bad[0], State.FAILED)
        self._next_bad = next(self._bad, None)
        return True
