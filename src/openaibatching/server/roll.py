"""The roll: what each line of a bulk call is to be answered, in order; on disk when it grows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from openaibatching.server.bulk_lines import Entry

BYTES_IN_MEMORY = 1_000_000


class Roll:
    """One entry an input line: written first, then read."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where it grows. Not the system's own for such files, which may be memory."""
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            BYTES_IN_MEMORY, dir=str(folder)
        )
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Entry])

    def write(self, entries: list[Entry]) -> None:
        """Add these."""
        data = self._encoder.encode(entries)
        self._file.write(len(data).to_bytes(4) + data)

    def read(self) -> Iterator[list[Entry]]:
        """All of them, from the start, as many at a time as they were written."""
        self._file.seek(0)
        while head := self._file.read(4):
            yield self._decoder.decode(self._file.read(int.from_bytes(head)))

    def close(self) -> None:
        """Forget it."""
        self._file.close()
