"""Which request each response in the output file answers: a file beside it, `….openaibatching`.

Output lines are OpenAI's, so there is no room for it in them. A line is added here before its
response is written, so a response that a kill lets stand has its record. The last record of a
custom_id counts, and one without a response means nothing. So rows may be sorted, edited and taken
out of the output file by hand, and this file may be deleted: responses without a record are taken
as they are, and recorded.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from openaibatching.cli.run.input_file import InputFile

SUFFIX = ".openaibatching"


@dataclass(frozen=True)
class Entry:
    """A response that is about to be written: the custom_id, the fingerprint of what was asked, and
    whether it was asked as one of several samples, by a key of its own."""

    name: str
    fingerprint: int
    sample: bool


class Recorded:
    """What the record says of the lines of an input file: 9 bytes a line."""

    def __init__(self, lines: int) -> None:
        self._fingerprints, self._samples = array("Q", bytes(8 * lines)), bytearray(lines)

    def note(self, line: int, entry: Entry) -> None:
        """This is recorded of the line."""
        self._fingerprints[line], self._samples[line] = entry.fingerprint, entry.sample

    def fingerprint(self, line: int) -> int:
        """0 if nothing is recorded of the line."""
        return self._fingerprints[line]

    def sample(self, line: int) -> bool:
        """Whether the line was asked as one of several samples."""
        return bool(self._samples[line])


class Record:
    """The file. Every method raises OSError."""

    def __init__(self, output: Path) -> None:
        self._path = output.with_name(output.name + SUFFIX)
        self._file: BinaryIO | None = None
        self._torn = False

    def close(self) -> None:
        """Let go of the file, when all is on the disk."""
        if self._file is not None:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())

    def clear(self) -> None:
        """Forget all: no response is there."""
        self._path.unlink(missing_ok=True)
        self._torn = False

    def read(self, lines: InputFile) -> Recorded:
        """What it says of these lines. What is no record, because a kill cut it off or somebody
        has edited it, says nothing."""
        recorded = Recorded(lines.count)
        if not self._path.exists():
            return recorded
        with self._path.open("rb") as file:
            for text in file:
                self._torn = not text.endswith(b"\n")
                entry = _entry(text)
                line = None if entry is None else lines.find(entry.name)
                if entry is not None and line is not None:
                    recorded.note(line, entry)
        return recorded

    def add(self, entries: Iterable[Entry]) -> None:
        """Record these, so that it is there whatever happens to this process."""
        text = b"".join(
            b'{"custom_id":%s,"asked":"%016x","sample":%s}\n'
            % (json.dumps(e.name).encode(), e.fingerprint, b"true" if e.sample else b"false")
            for e in entries
        )
        if self._file is None:
            self._file = self._path.open("ab")
        self._file.write(b"\n" + text if self._torn else text)
        self._file.flush()
        self._torn = False


def _entry(text: bytes) -> Entry | None:
    try:
        value = json.loads(text)
        name, sample = value["custom_id"], value["sample"]
        fingerprint = int(value["asked"], 16)
    except (ValueError, LookupError, TypeError):
        return None
    if isinstance(name, str) and isinstance(sample, bool) and 0 < fingerprint < 1 << 64:
        return Entry(name, fingerprint, sample)
    return None
