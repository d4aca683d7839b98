"""Control of a simulator in another process, under `/_simulator/` and without a key."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from openaibatching.simulator.api.door import json_reply
from openaibatching.simulator.engine.account import Account
from openaibatching.simulator.engine.canonical import body_sha256, parse
from openaibatching.simulator.engine.world import World
from openaibatching.simulator.faults.faults import Faults
from openaibatching.simulator.faults.gates import Gate


def routes(world: World) -> list[Route]:
    """The control routes of one Simulator."""
    control = _Control(world)
    return [
        Route("/_simulator/ledger", control.ledger, methods=["GET"]),
        Route("/_simulator/ledger", control.entry, methods=["POST"]),
        Route("/_simulator/state", control.state, methods=["GET"]),
        Route("/_simulator/requests", control.requests, methods=["GET"]),
        Route("/_simulator/faults", control.faults, methods=["POST"]),
        Route("/_simulator/account", control.account, methods=["POST"]),
        Route("/_simulator/batches/{id}/cancel", control.cancel, methods=["POST"]),
        Route("/_simulator/gates", control.add_gate, methods=["POST"]),
        Route("/_simulator/gates/{id}", control.gate, methods=["GET"]),
        Route("/_simulator/gates/{id}/{decision}", control.decide, methods=["POST"]),
    ]


_Made = TypeVar("_Made")


class _Control:
    def __init__(self, world: World) -> None:
        self._world = world

    async def ledger(self, request: Request) -> Response:
        ledger = self._world.ledger

        def read() -> dict[str, Any]:
            return {
                "counts": ledger.counts(),
                "lines": ledger.lines,
                "usage": ledger.usage,
                "failures": ledger.failures,
                "spoiled": ledger.spoiled,
            }

        return json_reply(await anyio.to_thread.run_sync(read))

    async def entry(self, request: Request) -> Response:
        """What became of the one body that is posted here, for callers who cannot name it."""
        body = await _object(request)
        if body is None:
            return _refused("expected the body of a call, a JSON object")
        ledger = self._world.ledger

        def read() -> dict[str, Any]:
            sha = body_sha256(body)
            return {
                "sha256": sha,
                "executed": ledger.counts().get(sha, 0),
                "failed": ledger.failures.get(sha, 0),
                "spoiled": ledger.spoiled.get(sha, 0),
            }

        return json_reply(await anyio.to_thread.run_sync(read))

    async def state(self, request: Request) -> Response:
        batches = await anyio.to_thread.run_sync(self._world.batches)
        files = await anyio.to_thread.run_sync(self._world.files)
        return json_reply({"files": files, "batches": batches})

    async def requests(self, request: Request) -> Response:
        counts = self._world.requests.counts
        return json_reply({f"{method} {path}": n for (method, path), n in counts.items()})

    async def faults(self, request: Request) -> Response:
        given = _made(Faults, await _object(request))
        if isinstance(given, str):
            return _refused(given)
        self._world.faults = given
        return json_reply(dataclasses.asdict(given))

    async def account(self, request: Request) -> Response:
        """Replace the state of the account; `{}` puts everything back."""
        given = _made(Account, await _object(request))
        if isinstance(given, str):
            return _refused(given)
        self._world.account = given
        return json_reply(dataclasses.asdict(given))

    async def cancel(self, request: Request) -> Response:
        """Cancel one batch, as somebody in OpenAI's console does."""
        engine = self._world.engine
        batch = engine.store.batch(request.path_params["id"])
        if batch is None:
            return json_reply({"error": {"message": "no such batch"}}, 404)
        await anyio.to_thread.run_sync(engine.cancel, batch)
        return json_reply(batch.view(self._world.clock()))

    async def add_gate(self, request: Request) -> Response:
        given = await _object(request) or {}
        when = given.get("when", "before")
        if when not in ("before", "after") or not isinstance(given.get("on"), str):
            return _refused('expected {"on": "POST /batches", "when": "before" or "after"}')
        return json_reply(self._world.gate(given["on"], when=when).view())

    async def gate(self, request: Request) -> Response:
        gate = self._gate(request)
        return _no_gate() if gate is None else json_reply(gate.view())

    async def decide(self, request: Request) -> Response:
        gate, decision = self._gate(request), request.path_params["decision"]
        if gate is None or decision not in ("release", "cut"):
            return _no_gate()
        if decision == "release":
            gate.release()
        else:
            gate.cut()
        return json_reply(gate.view())

    def _gate(self, request: Request) -> Gate | None:
        return self._world.gates.get(request.path_params["id"])


def _made(kind: Callable[..., _Made], given: dict[str, Any] | None) -> _Made | str:
    """The data class `kind` out of JSON, or why it cannot be made."""
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if given is None or not set(given) <= known:
        return f"known are: {sorted(known)}"
    try:
        return kind(**given)
    except ValueError as wrong:
        return str(wrong)


async def _object(request: Request) -> dict[str, Any] | None:
    """The JSON object that was sent, or None if it is none."""
    try:
        given = parse(await request.body())
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _refused(message: str) -> Response:
    return json_reply({"error": {"message": message}}, 400)


def _no_gate() -> Response:
    return json_reply({"error": {"message": "no such gate"}}, 404)
