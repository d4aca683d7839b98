"""The words of a run: how far a line has come, and what can come between."""

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


class CannotRun(Exception):
    """The run cannot begin or go on; the message is the one line that is said."""


class Away(Exception):
    """The server did not answer, or not all of it: to be tried again. The message says why."""
