"""The output file: answers are added to it as they come, and those that are there are final.

So a run that was interrupted, in whatever way, goes on from it, and needs nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from openaibatching.commands.words import CannotRun
from openaibatching.run.answers import START, Answer, read_answer
from openaibatching.run.input_file import InputFile
from openaibatching.run.words import State


class OutputFile:
    """An output file that only this run adds to."""

    def __init__(self, path: Path, lines: InputFile) -> None:
        """Open or make it. Raises CannotRun."""
        self.path, self._lines = path, lines
        try:
            if path.exists() and path.samefile(lines.path):
                raise CannotRun(f"{path} is the input: name another file for the output")
            self._file = path.open("a+b")
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def close(self) -> None:
        """Let go of the file, when all is on the disk."""
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def take_up(self) -> None:
        """Move the lines whose answers are there, and answer the bad ones.

        Raises CannotRun if another run writes into the file, or there is anything in it but
        answers to these lines: nobody's file is harmed by mistake.
        """
        try:
            _lock(self._file, self.path)
            self._answer_bad_lines(self._take_up_lines())
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def add(self, answers: Iterable[Answer]) -> None:
        """Write these, so that they are there whatever happens to this process."""
        self._write(answer.text for answer in answers)

    def _write(self, lines: Iterable[bytes]) -> None:
        try:
            self._file.write(b"".join(part for line in lines for part in (line, b"\n")))
            self._file.flush()
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def _cannot_be_written(self, error: OSError) -> CannotRun:
        return CannotRun(f"{self.path} cannot be written: {error.strerror}")

    def _take_up_lines(self) -> int:
        """Read what is there, and cut off half a line at its end; how many bad lines it answers."""
        bad_ones, whole = 0, 0
        self._file.seek(0)
        for number, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                if not text.startswith(START[: len(text)]):
                    raise self._not_ours(number)
                break
            bad_ones += self._take_up_line(number, text.rstrip(b"\n"))
            whole += len(text)
        self._file.truncate(whole)
        return bad_ones

    def _take_up_line(self, number: int, text: bytes) -> bool:
        """Whether it is the answer to a bad line, which has no name."""
        try:
            answer = read_answer(text)
        except ValueError:
            raise self._not_ours(number) from None
        if answer.name is None:
            return True
        line = self._lines.find(answer.name)
        if line is None:
            raise CannotRun(
                f"{self.path}, line {number}, answers {answer.name!r}, which {self._lines.path} "
                "does not ask: name another file"
            )
        if answer.state not in (State.DONE, State.FAILED):
            raise self._not_ours(number)
        self._lines.move(line, answer.state)
        return False

    def _not_ours(self, number: int) -> CannotRun:
        return CannotRun(
            f"{self.path}, line {number}, is no final batch output line: name another file"
        )

    def _answer_bad_lines(self, answered: int) -> None:
        """All but the first so many, which were by an earlier run; they stand in their order."""
        for place, (line, error) in enumerate(self._lines.bad_lines()):
            if place >= answered:
                self._file.write(error.answer(line + 1) + b"\n")
            self._lines.move(line, State.FAILED)
        self._file.flush()


def _lock(file: BinaryIO, path: Path) -> None:
    """Two runs would write some answers twice."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotRun(f"{path} is being written by another run") from None
    except OSError:  # a network drive without locks
        return
