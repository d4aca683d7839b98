"""A server that is paused with its hands full: a batch at each point at which it works on one.

Each hand is a batch of a model of its own, held where its name says. The others take the batches
when the lease has run out; then the paused server comes back and still believes that it has them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from openaibatching.simulator.calls import Call
from openaibatching.simulator.gates import When
from support.killing import DEADLINE_S, World
from support.points import CREATES
from support.process import ServerProcess

PAUSED_KEY = "sk-of-the-paused-server"
CALLS_EACH = 5

Release = Callable[[], None]
Hand = Callable[["Paused", str], Release]


class Paused:
    """The server, what it has in hand, and what it does when it is back."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world, self.stack = world, stack
        self.server: ServerProcess = world.start(OPENAI_API_KEY=PAUSED_KEY)
        self.texts: dict[str, list[str]] = {}
        self._releases: list[Release] = []
        self._calls_before = 0

    def ask(self, model: str) -> None:
        """Calls that become a batch of this model."""
        self.texts[model] = [f"{model} {n}" for n in range(CALLS_EACH)]
        self.world.ask(self.server, self.texts[model], model)

    def take(self, hands: Sequence[str]) -> None:
        """Have a batch at each of these points, in the order of HANDS, and be paused."""
        self._releases = [hold(self, name) for name, hold in HANDS.items() if name in hands]
        self.server.signal(signal.SIGSTOP)
        self.stack.close()  # the database holds nobody else up
        self._calls_before = len(self.calls())

    def release(self) -> None:
        """What was in the air acts now, or is answered."""
        for release in self._releases:
            release()

    def resume(self) -> None:
        self.server.signal(signal.SIGCONT)

    def calls(self) -> list[Call]:
        """Its calls to OpenAI."""
        return [call for call in self.world.simulator.requests.latest if call.key == PAUSED_KEY]

    def acted_since(self) -> list[Call]:
        """Its calls since it was paused that may have changed something at OpenAI."""
        return [call for call in self.calls()[self._calls_before :] if call.method != "GET"]

    def until_it_has_let_go(self) -> None:
        """Until it has said of every hand that another server has the batch."""
        deadline = time.monotonic() + DEADLINE_S
        while self.server.log.read_text().count(" lease_lost ") < len(self._releases):
            assert time.monotonic() < deadline, self.server.log.read_text()
            time.sleep(0.05)


def _at_gate(route: str, when: When) -> Hand:
    def hold(paused: Paused, model: str) -> Release:
        gate = paused.world.simulator.gate(route, when=when)
        paused.ask(model)
        gate.wait_reached(DEADLINE_S)
        return gate.release

    return hold


def _storing(paused: Paused, model: str) -> Release:
    """Its transaction waits for a row; when it gets it, it stands open."""
    gate = paused.world.simulator.gate("GET /files/{id}/content", when="before")
    paused.ask(model)
    gate.wait_reached(DEADLINE_S)
    rows = f"select from request where model = '{model}' for update"
    lock = paused.stack.enter_context(paused.world.locked(rows))
    gate.release()
    lock.until_blocks("update request")
    return lambda: None


def _sending(paused: Paused, model: str) -> Release:
    """Its intent to create is committed, and it has not heard so."""
    with paused.world.locked(CREATES) as lock:
        paused.ask(model)
        lock.until_blocks()
        paused.stack.enter_context(paused.world.commits_held())
        lock.release()
        paused.world.until_commit_waits()
    return lambda: None


HANDS: dict[str, Hand] = {
    "deleting-files": _at_gate("DELETE /files/{id}", "before"),
    "downloading": _at_gate("GET /files/{id}/content", "after"),
    "storing-results": _storing,
    "uploading": _at_gate("POST /files", "before"),
    "created-unanswered": _at_gate("POST /batches", "after"),
    "before-the-create": _sending,  # the last, because no other commit comes through
}
