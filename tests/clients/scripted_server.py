"""A server that gives the replies a test has written down, in order, and notes what it was asked.

For what no healthy batch server does on demand: failures, foreign answers, a `Prefer` ignored.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ScriptedServer:
    """`replies` are given in order, the last one for ever; `asked` is what came in."""

    url: str = ""
    replies: list[Response] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def says(self, body: Any, status: int = 200, **headers: str) -> "ScriptedServer":
        """Add a reply; `x_y="v"` is the header `x-y: v`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append(JSONResponse(body, status, named))
        return self

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app."""
        request = Request(scope, receive)
        body = await request.body()
        self.asked.append(
            Asked(
                request.method,
                request.url.path,
                dict(request.headers),
                json.loads(body) if body else None,
            )
        )
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        await reply(scope, receive, send)
