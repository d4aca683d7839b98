"""What an output line says. Pure.

Output lines are those of `POST /v1/requests`, kept byte for byte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from openaibatching.cli.run.line_state import State
from openaibatching.client import output_line
from openaibatching.client.output_line import OutputLine

AGAIN = (401, 404, 408, 429)
"""Refusals that say nothing about the line: 401 is a key that ended while the line was held, 404 a
request that was deleted this very moment."""


@dataclass(frozen=True)
class Answer:
    """An output line: the custom_id, and how far its line has come; NEW is to be asked again."""

    name: str | None
    state: State
    text: bytes
    id: str | None = None
    """Of the request that answers; None if there is none."""

    def named(self, name: str) -> Answer:
        """The same with this custom_id, which the server did not get to read."""
        before = b'"custom_id":'
        text = self.text.replace(before + b"null", before + json.dumps(name).encode(), 1)
        return Answer(name, self.state, text, self.id)


def read_answer(text: bytes) -> Answer:
    """What an output line, without its end of line, says. Raises ValueError for any other."""
    line = output_line.read(text)
    return Answer(line.custom_id, _state(line), text, line.id)


def _state(line: OutputLine) -> State:
    if line.has_completed is False:
        return State.QUEUED if line.state == "queued" else State.IN_BATCH
    if line.has_completed is None and (line.status >= 500 or line.status in AGAIN):
        return State.NEW
    return State.DONE if 200 <= line.status < 300 else State.FAILED
