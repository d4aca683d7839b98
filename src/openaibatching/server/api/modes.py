"""How a call is answered while its request has not finished: the prefix of its path decides.

Each path of `/v1` is also served under the other prefixes, by the same handler. Only
`replies.reply` asks for the mode.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from enum import Enum
from typing import Any


class Mode(Enum):
    """What an unfinished request is answered. The value is the prefix before `/v1`."""

    EMPTY = ""
    """202 and an empty object: for callers that look at `has_completed`."""
    ASK = "/ask"
    """425: for callers that take a 2xx for the answer."""


_PREFIXES = tuple(mode.value for mode in Mode if mode.value)


def is_api(path: str) -> bool:
    """Whether a path (without the mode's prefix) is the API's, which needs a key."""
    return path == "/v1" or path.startswith("/v1/")


def enter(scope: MutableMapping[str, Any]) -> None:
    """Move the mode's prefix from the ASGI scope's `path` to its `root_path`."""
    path: str = scope["path"]
    for prefix in _PREFIXES:
        if path.startswith(prefix) and is_api(path[len(prefix) :]):
            scope["root_path"], scope["path"] = prefix, path[len(prefix) :]
            return


def of(scope: Mapping[str, Any]) -> Mode:
    """The mode of a scope that has passed `enter`."""
    return Mode(scope.get("root_path", ""))


def path_of(scope: Mapping[str, Any]) -> str:
    """The path as the caller wrote it, percent-decoded."""
    return f"{scope.get('root_path', '')}{scope['path']}"
