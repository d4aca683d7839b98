"""The output file: answers are added to it as they come, and those that are there are final.

So a run that was interrupted, in whatever way, goes on from it. The file beside it (record.py) says
what each answer was asked for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from openaibatching.cli.remote.exit_codes import CannotRun
from openaibatching.cli.run.input_file import InputFile
from openaibatching.cli.run.line_state import State
from openaibatching.cli.run.output_lines import Answer, read_answer
from openaibatching.cli.run.record import Entry, Record
from openaibatching.cli.run.responses import Rows
from openaibatching.client.output_line import START

RECORDED_AT_ONCE = 1000
NEW = ".new"


class OutputFile:
    """An output file that only this run adds to."""

    def __init__(self, path: Path, lines: InputFile) -> None:
        """Open or make it. Raises CannotRun."""
        self.path, self._lines = path, lines
        self._record = Record(path)
        try:
            if path.exists() and path.samefile(lines.path):
                raise CannotRun(f"{path} is the input: name another file for the output")
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def close(self) -> None:
        """Let go of the file, when all is on the disk."""
        try:
            with self._file:
                self._record.close()
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def take_up(self, *, again: bool = False) -> int:
        """Move the lines whose answers are there, and answer the bad ones; how many answers have
        no record of what they were asked for. `again`: lines that have changed are asked anew.

        Raises CannotRun, and leaves the file as it is, if another run writes into it, if there is
        anything in it but answers to these lines, or if lines have changed.
        """
        try:
            _lock(self._file, self.path)
            if not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
                raise _written_by_another(self.path)  # which has put a new file in its place
            rows, stand, size = self._judge(again=again)
            if all(stand):
                self._file.truncate(size)  # without half a line at the end
            else:
                self._rewrite(stand)
            if not stand:
                self._record.clear()
            elif rows.unrecorded:
                self._take_into_record()
            self._answer_bad_lines(rows)
        except OSError as error:
            raise self._cannot_be_written(error) from None
        return rows.unrecorded

    def add(self, answers: Iterable[Answer]) -> None:
        """Write these, so that they are there whatever happens to this process."""
        answers = list(answers)
        try:
            self._record.add(self._entry(answer) for answer in answers)
            self._write(answer.text for answer in answers)
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def _write(self, lines: Iterable[bytes]) -> None:
        self._file.write(b"".join(part for line in lines for part in (line, b"\n")))
        self._file.flush()

    def _cannot_be_written(self, error: OSError) -> CannotRun:
        return CannotRun(f"{self.path} cannot be written: {error.strerror}")

    def _entry(self, answer: Answer) -> Entry:
        line = None if answer.name is None else self._lines.find(answer.name)
        assert line is not None
        assert answer.name is not None
        return Entry(answer.name, self._lines.fingerprint(line), self._lines.is_sample(line))

    def _judge(self, *, again: bool) -> tuple[Rows, bytearray, int]:
        """The rows that are there, which of them stand, and where the last whole one ends."""
        rows = Rows(self.path, self._lines, self._record.read(self._lines), again=again)
        stand, size = bytearray(), 0
        self._file.seek(0)
        for text in self._file:
            if not text.endswith(b"\n"):
                if not text.startswith(START[: len(text)]):
                    raise rows.not_ours(len(stand) + 1)
                break
            stand.append(rows.stands(text[:-1]))
            size += len(text)
        rows.refuse()
        return rows, stand, size

    def _rewrite(self, stand: bytearray) -> None:
        """Have only those rows in the file that stand: at once, whenever this process ends."""
        real = self.path.resolve()
        path = real.with_name(real.name + NEW)
        file: BinaryIO = path.open("a+b")
        try:
            _lock(file, self.path)
            file.truncate(0)
            self._file.seek(0)
            for stands, text in zip(stand, self._file, strict=False):
                if stands:
                    file.write(text)
            file.flush()
            os.fsync(file.fileno())
            shutil.copymode(real, path)
            if os.name == "nt":  # an open file cannot be replaced there
                self._file.close()
            path.replace(real)
        except BaseException:
            file.close()
            with suppress(OSError):
                path.unlink()
            raise
        self._file.close()
        self._file = file

    def _take_into_record(self) -> None:
        """Record for what the rows were asked: for what their lines ask now, as far as is known."""
        entries: list[Entry] = []
        for answer in self._rows():
            if answer.name is not None:
                entries.append(self._entry(answer))
            if len(entries) == RECORDED_AT_ONCE:
                self._record.add(entries)
                entries.clear()
        self._record.add(entries)

    def _rows(self) -> Iterator[Answer]:
        self._file.seek(0)
        for text in self._file:
            yield read_answer(text[:-1])

    def _answer_bad_lines(self, rows: Rows) -> None:
        for line, text in rows.bad_answers_left():
            self._file.write(text + b"\n")
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
        raise _written_by_another(path) from None
    except OSError:  # a network drive without locks
        return


def _written_by_another(path: Path) -> CannotRun:
    return CannotRun(f"{path} is being written by another run")
