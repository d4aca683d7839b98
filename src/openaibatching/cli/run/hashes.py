"""Which line has a hash: a hash table in two arrays, 13 to 19 bytes a line.

A dict of a million texts takes more than 100 MB. Here a line has 8 bytes for its hash and a place
in the table, and two texts with one hash are one text: of 64 bits, a million lines have such a
pair once in 30 million files.
"""

from __future__ import annotations

from array import array

_EMPTY = array("I", bytes(4 * 1024))


class Hashes:
    """The hashes of a file's lines, in the order of the lines, from 0 on."""

    def __init__(self) -> None:
        self._hashes = array("Q")  # by line
        self._slots = _EMPTY[:]  # a line's number from 1 on; 0 is free
        self._used = 0

    def __getitem__(self, line: int) -> int:
        """The hash of a line; 0 if it has none."""
        return self._hashes[line]

    def add(self, hashed: int | None) -> int | None:
        """Give the next line this hash, or none. The earlier line that is found by it, if any."""
        self._hashes.append(hashed or 0)
        if hashed is None:
            return None
        slot = self._slot(hashed)
        if found := self._slots[slot]:
            return found - 1
        self._slots[slot] = len(self._hashes)
        self._used += 1
        if self._used * 4 > len(self._slots) * 3:
            self._grow()
        return None

    def find(self, hashed: int) -> int | None:
        """The line that is found by this hash: the first that has it, or the preferred one."""
        found = self._slots[self._slot(hashed)]
        return found - 1 if found else None

    def prefer(self, line: int) -> None:
        """Have this line found by its hash, in place of any other that has it."""
        self._slots[self._slot(self._hashes[line])] = line + 1

    def _slot(self, hashed: int) -> int:
        """The place of a hash in the table, or the free one where it belongs."""
        last = len(self._slots) - 1
        slot = hashed & last
        while (line := self._slots[slot]) and self._hashes[line - 1] != hashed:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        lines = self._slots
        self._slots = array("I", bytes(2 * lines.itemsize * len(lines)))
        for line in lines:
            if line:
                self._slots[self._slot(self._hashes[line - 1])] = line
