"""How a command can end, and what can come between."""

from __future__ import annotations

DONE, SAID_NO, COULD_NOT, INTERRUPTED = 0, 1, 2, 130

EXIT_CODES = (
    "The exit code is 0 if it was done, 1 if the server says no (no such id, not retryable, …), "
    "2 if the command is wrong, the server out of reach or the key not one of its keys, and 130 "
    "if it was interrupted."
)


class CannotRun(Exception):
    """The command cannot begin or go on; the message is the one line that is said."""


class Away(Exception):
    """The server did not answer, or not all of it: to be tried again. The message says why."""


class SaidNo(Exception):
    """The server understood, and will not do it; the message says why."""
