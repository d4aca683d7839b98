"""Which line has a custom_id: a hash table in two arrays, some 20 bytes a line.

A dict of a million texts takes more than 100 MB. Of a custom_id only Python's own 64-bit hash is
kept: keyed anew for each process, it takes two of a million for the same once in 30 million runs,
and that run then says that a custom_id stands twice, which is not so in the next one.
"""

from __future__ import annotations

from array import array

_BITS = (1 << 64) - 1
_NOTHING_YET = array("I", bytes(4 * 1024))


class Names:
    """The custom_ids of a file, in the order of its lines."""

    def __init__(self) -> None:
        self._hashes = array("Q")  # by line
        self._slots = _NOTHING_YET[:]  # a line's number from 1 on; 0 is free
        self._used = 0

    def add(self, name: str | None) -> bool:
        """Name the next line; None leaves it without. False if another line has that name."""
        self._hashes.append(0 if name is None else hash(name) & _BITS)
        if name is None:
            return True
        slot = self._slot(self._hashes[-1])
        if self._slots[slot]:
            return False
        self._slots[slot] = len(self._hashes)
        self._used += 1
        if self._used * 2 > len(self._slots):
            self._grow()
        return True

    def find(self, name: str) -> int | None:
        """The line of that name."""
        found = self._slots[self._slot(hash(name) & _BITS)]
        return found - 1 if found else None

    def _slot(self, hashed: int) -> int:
        """Where the line with that hash stands, or is to stand."""
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
