"""What an output line says, and what a bad input line is answered. Pure.

Output lines are those of the bulk door (`POST /v1/requests`), kept byte for byte. Only their head
and their end are looked at, because an answer can be large.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from openaibatching.run.words import State

_HEAD = re.compile(
    rb'\{"id":(?:null|"[^"]*"),"custom_id":(?P<name>null|"(?:[^"\\]|\\.)*"),"response":'
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

AGAIN = (404, 408, 429)
"""Refusals that say nothing about the line: 404 is a request that was deleted this very moment."""


@dataclass(frozen=True)
class Answer:
    """An output line: the custom_id, and how far its line has come; NEW is to be asked again."""

    name: str | None
    state: State
    text: bytes

    def named(self, name: str) -> Answer:
        """The same with this custom_id, which the server did not get to read."""
        before = b'"custom_id":'
        text = self.text.replace(before + b"null", before + json.dumps(name).encode(), 1)
        return Answer(name, self.state, text)


def read_answer(text: bytes) -> Answer:
    """What an output line, without its end of line, says. Raises ValueError for any other."""
    head = _HEAD.match(text)
    if head is None or not text.endswith(_TAIL):
        raise ValueError("no batch output line")
    said = _STATUS.search(text, max(head.end(), len(text) - _STATUS_BYTES_MAX))
    return Answer(json.loads(head["name"]), _state(int(head["status"]), said), text)


def _state(status: int, said: re.Match[bytes] | None) -> State:
    if said is not None and said[1] == b"false":
        return State.QUEUED if said[2] == b"queued" else State.IN_BATCH
    if said is None and (status >= 500 or status in AGAIN):
        return State.NEW
    return State.DONE if 200 <= status < 300 else State.FAILED


class BadLine(ValueError):
    """An input line that asks for nothing; `code` and `param` as the bulk door gives them."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param

    def answer(self, number: int) -> bytes:
        """The output line; its message says which line of the file it was."""
        error = {
            "message": f"Line {number}: {self}", "type": "invalid_request_error",
            "param": self.param, "code": self.code,
        }  # fmt: skip
        response = {"status_code": 400, "request_id": "", "body": {"error": error}}
        line = {"id": None, "custom_id": None, "response": response, "error": None}
        return json.dumps(line, separators=(",", ":")).encode()


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Integers as floats: Python refuses those of thousands of digits, and nobody looks at them here.
_decoder = json.JSONDecoder(parse_int=float, parse_constant=_constant)


def name_of(line: bytes) -> str:
    """The custom_id of an input line. Raises BadLine if it cannot be told what it is.

    All else is for the server to judge, which then names the line.
    """
    try:
        value: Any = _decoder.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadLine(f"The line is not valid JSON: {error}.", "invalid_json") from None
    if not isinstance(value, dict):
        raise BadLine("The line must be a JSON object.", "invalid_json")
    name = value.get("custom_id")
    if not isinstance(name, str):
        raise BadLine(
            "Missing required parameter: 'custom_id' (a text).",
            "missing_required_parameter",
            "custom_id",
        )
    return name
