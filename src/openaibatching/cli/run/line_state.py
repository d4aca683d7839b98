"""The words of a run: how far a line has come."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """How far an input line has come. One byte a line is kept of it."""

    NEW = 0
    """The server may not have it yet."""
    QUEUED = 1
    IN_BATCH = 2
    DONE = 3
    FAILED = 4
    BAD = 5
    """No request: it gets its answer here, and is FAILED then."""
    BLANK = 6


OPEN = (State.QUEUED, State.IN_BATCH)
