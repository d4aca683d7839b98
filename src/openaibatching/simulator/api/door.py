"""What every call goes through: the record, the key, the gates, and trouble on the way."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from openaibatching.simulator.api.wire import wire_of
from openaibatching.simulator.engine.calls import Call
from openaibatching.simulator.engine.canonical import write
from openaibatching.simulator.engine.errors import ApiError
from openaibatching.simulator.engine.world import World
from openaibatching.simulator.faults.gates import When

Act = Callable[[Request], Awaitable[Response]]

_HTML = "<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
_SERVER_ERRORS = {
    500: "The server had an error while processing your request. Sorry about that!",
    502: "Bad gateway.",
    503: "The server is currently overloaded. Please try again later.",
}


def server_error(status: int) -> ApiError:
    """A 5xx as OpenAI words it."""
    return ApiError(status, _SERVER_ERRORS[status], type="server_error")


class CutError(Exception):
    """The reply is never sent."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("cut")
        self.reset = reset


class Door:
    """Wraps the routes of one Simulator."""

    def __init__(self, world: World) -> None:
        self._world = world

    def route(self, method: str, template: str, act: Act) -> Route:
        """A Starlette route under /v1 for one of OpenAI's calls."""

        async def endpoint(request: Request) -> Response:
            return await self._serve(request, f"{method} {template}", act)

        return Route(f"/v1{template}", endpoint, methods=[method])

    async def _serve(self, request: Request, name: str, act: Act) -> Response:
        self.note(request, name.partition(" ")[2])
        try:
            reply = await self._reply(request, name, act)
        except CutError as cut:
            await wire_of(request.scope).cut(reset=cut.reset)
            reply = Response()
        return self.named(reply)

    def named(self, reply: Response) -> Response:
        """The reply with the headers that each of OpenAI's has, whatever it says."""
        reply.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
        reply.headers["openai-organization"] = self._world.organization
        return reply

    def note(self, request: Request, template: str) -> None:
        """Record a call."""
        retry = request.headers.get("x-stainless-retry-count", "0")
        call = Call(
            self._world.clock(),
            request.method,
            template,
            request.url.path,
            int(retry) if retry.isdecimal() else 0,
            _presented(request)[1],
        )
        self._world.requests.add(call)

    async def _reply(self, request: Request, name: str, act: Act) -> Response:
        try:
            self._authorize(request)
            await self._gate(name, "before")
            spoiled = self._before(name)
            reply = spoiled or await act(request)
        except ApiError as refusal:
            reply = refused(refusal)
        await self._gate(name, "after")
        return await self._after(name, reply)

    def _authorize(self, request: Request) -> None:
        scheme, key = _presented(request)
        if scheme.lower() != "bearer" or not key:
            raise ApiError(401, "Missing bearer or basic authentication in header")
        keys = self._world.api_keys
        if keys is not None and key not in keys:
            message = (
                f"Incorrect API key provided: {_masked(key)}. You can find your API key at "
                "https://platform.openai.com/account/api-keys."
            )
            raise ApiError(401, message, code="invalid_api_key")

    async def _gate(self, name: str, when: When) -> None:
        gate = self._world.gates.take(name, when)
        if gate is not None and await gate.stop_here():
            raise CutError

    def _before(self, name: str) -> Response | None:
        """Trouble that keeps the call from acting."""
        dice = self._world.dice
        if dice.hits("reset"):
            raise CutError(reset=True)
        if dice.hits("error_429"):
            message = "Rate limit reached for requests."
            after = _come_back(dice.nth("retry_after"))
            raise ApiError(429, message, None, "rate_limit_exceeded", "requests", after)
        for status in _SERVER_ERRORS:
            if dice.hits(f"error_{status}"):
                raise server_error(status)
        if dice.hits("html_instead_of_json"):
            return HTMLResponse(_HTML, 200 if dice.nth("html") % 2 else 502)
        if name == "GET /batches/{id}" and dice.hits("polls_fail"):
            raise server_error(502)
        return None

    async def _after(self, name: str, reply: Response) -> Response:
        """Trouble that comes when the call has acted."""
        dice = self._world.dice
        acted = reply.status_code == 200
        if dice.hits("timeouts"):
            await asyncio.sleep(dice.faults.hold_s)
        if acted and name == "POST /files":
            if dice.hits("lose_upload_reply"):
                raise CutError
            if dice.hits("upload_500_after_acting"):
                return refused(server_error(500))
        if acted and name == "POST /batches":
            if dice.hits("lose_create_reply"):
                raise CutError
            if dice.hits("create_500_after_acting"):
                return refused(server_error(500))
        return reply


def _come_back(nth: int) -> dict[str, str]:
    """Retry-After by turns as seconds, as a date (RFC 9110, 10.2.3), and not at all."""
    if nth % 3 == 1:
        return {"retry-after": "1"}
    if nth % 3 == 2:
        # By the real clock, as the `date` header; whole seconds, so one may be nearly over.
        return {"retry-after": formatdate(time.time() + 2, usegmt=True)}
    return {}


def refused(refusal: ApiError) -> Response:
    """The reply for a refusal."""
    return json_reply(refusal.body(), refusal.status, refusal.headers)


def _presented(request: Request) -> tuple[str, str]:
    """(scheme, key) of the Authorization header."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return scheme, key.strip()


def _masked(key: str) -> str:
    """A key as OpenAI repeats it: never whole."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else f"{key[:2]}{'*' * 6}"


def json_reply(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """This document as JSON; it may repeat what a caller sent, lone surrogates too."""
    return Response(write(document), status, headers, "application/json")
