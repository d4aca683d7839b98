"""Control of a simulator in another process, under `/_simulator/` and without a key."""

import dataclasses
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from openaibatching.simulator.canonical import body_sha256, parse
from openaibatching.simulator.door import json_reply
from openaibatching.simulator.faults import Faults
from openaibatching.simulator.gates import Gate

if TYPE_CHECKING:
    from openaibatching.simulator.core import Simulator


def routes(simulator: "Simulator") -> list[Route]:
    """The control routes of one Simulator."""
    control = _Control(simulator)
    return [
        Route("/_simulator/ledger", control.ledger, methods=["GET"]),
        Route("/_simulator/ledger", control.entry, methods=["POST"]),
        Route("/_simulator/state", control.state, methods=["GET"]),
        Route("/_simulator/requests", control.requests, methods=["GET"]),
        Route("/_simulator/faults", control.faults, methods=["POST"]),
        Route("/_simulator/gates", control.add_gate, methods=["POST"]),
        Route("/_simulator/gates/{id}", control.gate, methods=["GET"]),
        Route("/_simulator/gates/{id}/{decision}", control.decide, methods=["POST"]),
    ]


class _Control:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    async def ledger(self, request: Request) -> Response:
        ledger = self._simulator.ledger

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
        ledger = self._simulator.ledger

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
        batches = await anyio.to_thread.run_sync(self._simulator.batches)
        files = await anyio.to_thread.run_sync(self._simulator.files)
        return json_reply({"files": files, "batches": batches})

    async def requests(self, request: Request) -> Response:
        counts = self._simulator.requests.counts
        return json_reply({f"{method} {path}": n for (method, path), n in counts.items()})

    async def faults(self, request: Request) -> Response:
        given = await _object(request)
        known = {field.name for field in dataclasses.fields(Faults)}
        if given is None or not set(given) <= known:
            return _refused(f"known are: {sorted(known)}")
        try:
            self._simulator.faults = Faults(**given)
        except ValueError as wrong:
            return _refused(str(wrong))
        return json_reply(dataclasses.asdict(self._simulator.faults))

    async def add_gate(self, request: Request) -> Response:
        given = await _object(request) or {}
        when = given.get("when", "before")
        if when not in ("before", "after") or not isinstance(given.get("on"), str):
            return _refused('expected {"on": "POST /batches", "when": "before" or "after"}')
        return json_reply(self._simulator.gate(given["on"], when=when).view())

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
        return self._simulator.gates.get(request.path_params["id"])


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
