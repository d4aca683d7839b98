"""Faults asked for by the text of a body: `[[simulate:status=500*2]]`.

    [[simulate:NAME]]   [[simulate:NAME=VALUE]]   [[simulate:NAME*TIMES]]

With `*TIMES` the marker works only the first TIMES that this body is met, so a retry gets
through. Of several markers in one body the first that still works is taken.
"""

import re
import threading
from collections import Counter
from dataclasses import dataclass

_PATTERN = re.compile(rb"\[\[simulate:([a-z0-9_]+)(?:=([^\]*]*))?(?:\*(\d+))?\]\]")

AT_UPLOAD = frozenset({"unparseable"})
"""Of a file's first line: the upload is refused. Of another: validation finds no JSON in it."""

AT_VALIDATION = frozenset({"invalid", "poison"}) | AT_UPLOAD
"""Work when the batch is validated: fail this line with a code; refuse the whole, unnamed."""

IN_RESULT = frozenset(
    {
        "status",
        "missing",
        "lost",
        "expired",
        "cancelled",
        "garbled",
        "invalid_utf8",
        "u2028",
        "duplicate",
        "unknown_custom_id",
        "missing_custom_id",
        "empty",
        "timeout",
        "failed",
        "incomplete",
        "image_timeout",
        "two_messages",
    }
)
"""Work when the line is executed."""


@dataclass(frozen=True)
class Marker:
    """One `[[simulate:…]]`."""

    name: str
    value: str = ""


class Markers:
    """Reads markers and remembers how often each has worked for a body."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worked: Counter[tuple[str, bytes]] = Counter()

    def take(self, line: bytes, sha: str, names: frozenset[str]) -> Marker | None:
        """The first marker of these names that still works for this body."""
        if b"[[simulate:" not in line:
            return None
        for match in _PATTERN.finditer(line):
            name = match[1].decode()
            if name in names and self._works(sha, match[0], match[3]):
                return Marker(name, (match[2] or b"").decode("utf-8", "replace"))
        return None

    def _works(self, sha: str, text: bytes, times: bytes | None) -> bool:
        if times is None:
            return True
        with self._lock:
            if self._worked[sha, text] >= int(times):
                return False
            self._worked[sha, text] += 1
            return True
