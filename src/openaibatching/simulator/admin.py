"""Control of a simulator in another process, under `/_simulator/` and without a key."""

import dataclasses
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openaibatching.simulator.faults import Faults
from openaibatching.simulator.gates import Gate

if TYPE_CHECKING:
    from openaibatching.simulator.core import Simulator


def routes(simulator: "Simulator") -> list[Route]:
    """The control routes of one Simulator."""
    control = _Control(simulator)
    return [
        Route("/_simulator/ledger", control.ledger, methods=["GET"]),
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

        return JSONResponse(await anyio.to_thread.run_sync(read))

    async def state(self, request: Request) -> Response:
        batches = await anyio.to_thread.run_sync(self._simulator.batches)
        files = await anyio.to_thread.run_sync(self._simulator.files)
        return JSONResponse({"files": files, "batches": batches})

    async def requests(self, request: Request) -> Response:
        counts = self._simulator.requests.counts
        return JSONResponse({f"{method} {path}": n for (method, path), n in counts.items()})

    async def faults(self, request: Request) -> Response:
        given = await request.json()
        known = {field.name for field in dataclasses.fields(Faults)}
        if not isinstance(given, dict) or not set(given) <= known:
            return JSONResponse({"error": {"message": f"known are: {sorted(known)}"}}, 400)
        try:
            self._simulator.faults = Faults(**given)
        except ValueError as wrong:
            return JSONResponse({"error": {"message": str(wrong)}}, 400)
        return JSONResponse(dataclasses.asdict(self._simulator.faults))

    async def add_gate(self, request: Request) -> Response:
        given = await request.json()
        when = given.get("when", "before")
        if when not in ("before", "after") or not isinstance(given.get("on"), str):
            message = 'expected {"on": "POST /batches", "when": "before" or "after"}'
            return JSONResponse({"error": {"message": message}}, 400)
        return JSONResponse(self._simulator.gate(given["on"], when=when).view())

    async def gate(self, request: Request) -> Response:
        gate = self._gate(request)
        return _no_gate() if gate is None else JSONResponse(gate.view())

    async def decide(self, request: Request) -> Response:
        gate, decision = self._gate(request), request.path_params["decision"]
        if gate is None or decision not in ("release", "cut"):
            return _no_gate()
        if decision == "release":
            gate.release()
        else:
            gate.cut()
        return JSONResponse(gate.view())

    def _gate(self, request: Request) -> Gate | None:
        return self._simulator.gates.get(request.path_params["id"])


def _no_gate() -> Response:
    return JSONResponse({"error": {"message": "no such gate"}}, 404)
