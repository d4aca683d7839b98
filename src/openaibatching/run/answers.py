"""What an output line says. Pure.

Output lines are those of the bulk door (`POST /v1/requests`), kept byte for byte. Only their head
and their end are looked at, because an answer can be large.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from openaibatching.run.words import State

_HEAD = re.compile(
    rb'\{"id":(?:null|"(?P<id>[^"]*)"),"custom_id":(?P<name>null|"(?:[^"\\]|\\.)*"),"response":'
    rb'\{"status_code":(?P<status>\d+),"request_id":"[^"]*","body":'
)
_TAIL = b'},"error":null}'
_STATUS = re.compile(
    rb'"has_completed":(true|false),"batching":\{"id":"[^"]*","status":"(\w+)"[^{}]*\}\}'
    + re.escape(_TAIL)
)
_STATUS_BYTES_MAX = 2048
START = b'{"id":'
"""Every output line begins like this, even one that was cut off."""

AGAIN = (401, 404, 408, 429)
"""Refusals that say nothing about the line: 401 is a key that ended while the line was held, 404 a
request that was deleted this very moment."""


@dataclass(frozen=True)
class Answer:
    """An output line: the custom_id, and how far its line has come; NEW is to be asked again."""

    name: str | None
    state: State
    text: bytes
    id: bytes | None = None
    """Of the request that answers; None if there is none."""

    def named(self, name: str) -> Answer:
        """The same with this custom_id, which the server did not get to read."""
        before = b'"custom_id":'
        text = self.text.replace(before + b"null", before + json.dumps(name).encode(), 1)
        return Answer(name, self.state, text, self.id)


def read_answer(text: bytes) -> Answer:
    """What an output line, without its end of line, says. Raises ValueError for any other."""
    head = _HEAD.match(text)
    if head is None or not text.endswith(_TAIL):
        raise ValueError("no batch output line")
    said = _STATUS.search(text, max(head.end(), len(text) - _STATUS_BYTES_MAX))
    state = _state(int(head["status"]), said)
    return Answer(json.loads(head["name"]), state, text, head["id"])


def _state(status: int, said: re.Match[bytes] | None) -> State:
    if said is not None and said[1] == b"false":
        return State.QUEUED if said[2] == b"queued" else State.IN_BATCH
    if said is None and (status >= 500 or status in AGAIN):
        return State.NEW
    return State.DONE if 200 <= status < 300 else State.FAILED
