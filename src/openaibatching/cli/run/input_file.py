"""The input file: where each line stands in it, and how far it has come.

No line is kept, only some 45 bytes about each; a line is read again whenever it is sent.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from openaibatching.cli.remote.exit_codes import CannotRun
from openaibatching.cli.run.hashes import Hashes
from openaibatching.cli.run.input_lines import (
    KIND_BYTES,
    BadLine,
    as_sample,
    read_line,
    trimmed,
    wrong_kind,
    wrong_layout,
)
from openaibatching.cli.run.line_state import OPEN, State

_TAKEN = 16
"""Added to the state of a line while it is in a window."""
_FREE_NEW = re.compile(rb"[%c]" % State.NEW)
_FREE_OPEN = re.compile(rb"[%s]" % bytes(OPEN))
# Of a custom_id Python's own hash is kept. It is keyed anew for each process: two that it takes for
# the same stop this run, and not the next one.
_NAME_BITS = (1 << 64) - 1


class InputFile:
    """The lines of a batch input file. `line` counts from 0, blank ones included."""

    def __init__(self, path: Path) -> None:
        """Open the file; nothing is known of its lines yet. Raises CannotRun."""
        self.path = path
        self.counts = [0] * len(State)
        self._starts, self._states = array("Q", [0]), bytearray()
        self._names, self._fingerprints = Hashes(), Hashes()
        self._turn = 0
        if not path.is_file():
            raise CannotRun(f"{path}: no such file")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise self._cannot_be_read(error) from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def index(self) -> None:
        """Read the file once. Raises CannotRun if that cannot be done, if it is no file of lines of
        JSON or has no line, or if two lines have the same custom_id: OpenAI refuses such a file,
        and no response could be told from another."""
        try:
            self._refuse(wrong_kind(self._file.peek(KIND_BYTES)))
            for text in self._file:
                self._add(text)
        except OSError as error:
            raise self._cannot_be_read(error) from None
        if not self.total:
            self._refuse("has no line (OpenAI refuses it too)")

    def _cannot_be_read(self, error: OSError) -> CannotRun:
        return CannotRun(f"{self.path} cannot be read: {error.strerror}")

    def _refuse(self, why: str | None) -> None:
        if why is not None:
            raise CannotRun(f"{self.path} {why}")

    def _add(self, raw: bytes) -> None:
        state, name, fingerprint = State.NEW, None, None
        text = trimmed(raw)
        if text and not self.total:
            self._refuse(wrong_layout(text))
        try:
            if text:
                asked = read_line(text)
                name, fingerprint = asked.name, asked.fingerprint
            else:
                state = State.BLANK
        except BadLine:
            state = State.BAD
        if self._names.add(None if name is None else hash(name) & _NAME_BITS) is not None:
            number = len(self._states) + 1
            raise CannotRun(
                f"{self.path}, line {number}: the custom_id {name!r} stands there twice"
            )
        self._fingerprints.add(fingerprint)
        self._starts.append(self._starts[-1] + len(raw))
        self._states.append(state)
        self.counts[state] += 1

    @property
    def count(self) -> int:
        """How many lines there are, blank ones included."""
        return len(self._states)

    @property
    def total(self) -> int:
        """How many lines want an answer."""
        return len(self._states) - self.counts[State.BLANK]

    @property
    def unfinished(self) -> int:
        """How many of them the server still owes one."""
        return sum(self.counts[state] for state in (State.NEW, *OPEN))

    def find(self, name: str) -> int | None:
        """The line with that custom_id."""
        return self._names.find(hash(name) & _NAME_BITS)

    def fingerprint(self, line: int) -> int:
        """Of what the line asks for: another one when its body, url or idempotency_key changes."""
        return self._fingerprints[line]

    def is_sample(self, line: int) -> bool:
        """Whether another line stands for its body; of equal bodies, the first does."""
        return self._fingerprints.find(self._fingerprints[line]) != line

    def is_plain(self, line: int) -> None:
        """Have this line stand for its body: it has been asked as the body alone."""
        self._fingerprints.prefer(line)

    def state(self, line: int) -> State:
        """How far it has come."""
        return State(self._states[line] & ~_TAKEN)

    def move(self, line: int, state: State) -> None:
        """It has come so far."""
        old = self._states[line]
        self.counts[old & ~_TAKEN] -= 1
        self.counts[state] += 1
        self._states[line] = state | (old & _TAKEN)

    def read(self, line: int) -> bytes:
        """Its bytes, without the end of line."""
        size = self._size(line)
        try:
            self._file.seek(self._starts[line])
            text = self._file.read(size)
        except OSError as error:
            raise self._cannot_be_read(error) from None
        if len(text) != size:
            raise CannotRun(f"{self.path} was cut off while it was being sent")
        return trimmed(text)

    def request(self, line: int) -> bytes:
        """What is sent for it: its bytes, with a name if it is a sample."""
        text = self.read(line)
        return as_sample(text) if self.is_sample(line) else text

    def bad_lines(self) -> Iterator[tuple[int, BadLine]]:
        """Those that ask for nothing, in their order, with what is wrong with them."""
        for found in re.finditer(rb"[%c]" % State.BAD, bytes(self._states)):
            try:
                read_line(self.read(found.start()))
            except BadLine as error:
                yield found.start(), error

    def take(self, lines_max: int, bytes_max: int) -> tuple[State, Sequence[int]]:
        """Lines to ask for now, which nobody else takes until they are given back.

        First all that are new; then those that the server has, each in its turn, so that none
        that takes long stands before another. They are (NEW, lines) or (QUEUED, lines); none when
        nothing is left to be taken.
        """
        if new := self._take(_FREE_NEW, 0, len(self._states), lines_max, bytes_max):
            return State.NEW, new
        start = self._turn
        window = self._take(_FREE_OPEN, start, len(self._states), lines_max, bytes_max)
        if not window:
            window = self._take(_FREE_OPEN, 0, start, lines_max, bytes_max)
        if window:
            self._turn = window[-1] + 1
        return State.QUEUED, window

    def _take(
        self, free: re.Pattern[bytes], start: int, end: int, lines_max: int, bytes_max: int
    ) -> Sequence[int]:
        window, size = array("Q"), 0
        for found in free.finditer(self._states, start, end):
            line = found.start()
            size += self._size(line)
            if len(window) == lines_max or (window and size > bytes_max):
                break
            window.append(line)
        for line in window:
            self._states[line] |= _TAKEN
        return window

    def give_back(self, window: Sequence[int]) -> None:
        """What is open among them may be taken again."""
        for line in window:
            self._states[line] &= ~_TAKEN

    def _size(self, line: int) -> int:
        return self._starts[line + 1] - self._starts[line]
