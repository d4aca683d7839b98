"""An output line of a batch server (`POST /v1/requests`), taken apart. Pure.

Its body is what the call alone would have been answered, byte for byte. Only the line's head and
its end are read, because an answer can be large.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

START = b'{"id":'
"""Every output line begins like this, even one that was cut off."""
_HEAD = re.compile(
    rb'\{"id":(?:null|"([^"]*)"),"custom_id":(null|"(?:[^"\\]|\\.)*"),"response":'
    rb'\{"status_code":(\d+),"request_id":"[^"]*","body":'
)
_TAIL = b'},"error":null}'
_MEMBERS = b'"has_completed":'
_MEMBERS_BYTES_MAX = 2048
"""How long the two members are at most that a batch server adds at a body's end."""


@dataclass(frozen=True)
class OutputLine:
    """`id` is the request's that answers, None if there is none; `custom_id` is None where the
    server could not read it. `has_completed` and `state` (`batching.status`) are what the body says
    of its request; None in a body that says nothing of one."""

    id: str | None
    custom_id: str | None
    status: int
    body: bytes
    has_completed: bool | None = None
    state: str | None = None


def read(text: bytes) -> OutputLine:
    """An output line, without its end of line. Raises ValueError for any other text."""
    head = _HEAD.match(text)
    if head is None or not text.endswith(_TAIL):
        raise ValueError("no output line of a batch server")
    id_, custom_id, status = head.groups()
    id_ = None if id_ is None else id_.decode()
    body = text[head.end() : -len(_TAIL)]
    return OutputLine(id_, json.loads(custom_id), int(status), body, *_said(body))


def _said(body: bytes) -> tuple[bool | None, str | None]:
    at = body.rfind(_MEMBERS, -_MEMBERS_BYTES_MAX)
    try:
        members: Any = json.loads(b"{" + body[at:]) if at >= 0 else {}
        return members["has_completed"], members["batching"]["status"]
    except (ValueError, LookupError, TypeError):
        return None, None
