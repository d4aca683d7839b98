"""Cutting a stream of bytes into lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLANK_LINES = re.compile(rb"\n[\r \t\n]*\n")


class Lines:
    """Cuts a stream of chunks into lines, at byte 0x0A only (a raw U+2028 is no line break).

    Of a line with more than `line_bytes_max` bytes only that it was too long is kept: it comes as
    None, so that no stream can fill the memory.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._most = line_bytes_max
        self._line = bytearray()  # no list: a caller may send a byte at a time
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that `chunk` completes, without blank ones.

        Blank lines between others cost a few nanoseconds each: a stream of nothing else must not
        take the time of other callers.
        """
        head, *more = _BLANK_LINES.sub(b"\n", chunk).split(b"\n")
        self._add(head)
        for part in more:
            yield from self.end()
            self._add(part)

    def end(self) -> Iterator[bytes | None]:
        """The line that is left at the end of the stream, if any."""
        if self._size > self._most:
            yield None
        elif line := bytes(self._line).strip(b"\r \t"):
            yield line
        self._line.clear()
        self._size = 0

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            self._line.clear()
        else:
            self._line += part
