"""The roll: what each line of a bulk call is to be answered, in order; on disk when it grows.

It is compressed. A refused line of two bytes is answered with some 150, the same 150 each time, and
without compression a caller could fill the disk with 70 times what it sends.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from openaibatching.server.api.bulk.lines import Entry

BYTES_IN_MEMORY = 1_000_000
_LEVEL = 1
"""Of zlib, the fastest: 3 us a line, and a fifth of the bytes for lines that are no attack."""


class Roll:
    """One entry an input line: written first, then read."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where it grows. Not the system's own for such files, which may be memory."""
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            BYTES_IN_MEMORY, dir=str(folder)
        )
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Entry])
        self.size = 0
        """Bytes that have been written."""

    def write(self, entries: list[Entry]) -> None:
        """Add these."""
        data = zlib.compress(self._encoder.encode(entries), _LEVEL)
        self._file.write(len(data).to_bytes(4) + data)
        self.size += 4 + len(data)

    def read(self) -> Iterator[list[Entry]]:
        """All of them, from the start, as many at a time as they were written."""
        self._file.seek(0)
        while head := self._file.read(4):
            data = zlib.decompress(self._file.read(int.from_bytes(head)))
            yield self._decoder.decode(data)

    def close(self) -> None:
        """Forget it."""
        self._file.close()
