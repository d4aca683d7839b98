"""What every reply carries, of the API and of the page, and also those that refuse early.

`x-request-id` is made here for each request and is in each log line that the request causes. A
caller's own `X-Request-ID` is not used: two requests could have the same, and whoever chooses it
could put another's id beside their own deeds in the log and in the audit.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from starlette.types import Message, Send

from openaibatching.server.telemetry import logs

NAME = b"x-request-id"
_ID = "openaibatching.request_id"
_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")

_numbers = random.Random()  # noqa: S311 - an id is no secret, and this asks the system once

Headers = list[tuple[bytes, bytes]]


def new_id() -> str:
    """An id that no other request has."""
    return f"req_{_numbers.getrandbits(128):032x}"


def enter(scope: MutableMapping[str, Any], send: Send, *, tls: bool) -> Send:
    """Give the request its id, in its ASGI scope and in all that is logged in this task. What is
    returned sends replies with their headers."""
    scope[_ID] = id_ = new_id()
    logs.REQUEST_ID.set(id_)
    https = tls or is_https(scope["headers"])

    async def send_named(message: Message) -> None:
        if message["type"] != "http.response.body":
            message["headers"] = complete(message.get("headers", ()), id_, https=https)
        await send(message)

    return send_named


def of(scope: Mapping[str, Any]) -> str:
    """The id of the request."""
    return str(scope.get(_ID, ""))


def complete(headers: Iterable[tuple[bytes, bytes]], id_: str, *, https: bool) -> Headers:
    """The headers of a reply, with those that each one carries; what it has itself stays."""
    found = list(headers)
    names = {name.lower() for name, _ in found}
    found.append((NAME, id_.encode()))
    found += [header for header in _ALWAYS if header[0] not in names]
    if https:
        found.append(_HSTS)
    return found


def is_https(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a proxy says that the reader sees https. Anybody may write this header: it decides
    nothing but what their own browser keeps."""
    return any(name == b"x-forwarded-proto" and value == b"https" for name, value in headers)
