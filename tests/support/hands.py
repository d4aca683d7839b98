"""A server that is paused with its hands full: a batch at each point at which it works on one.

Each hand is a batch of a model of its own, held where its name says. The others take the batches
when the lease has run out; then the paused server comes back and still believes that it has them.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from openaibatching.simulator.engine.calls import Call
from openaibatching.simulator.faults.gates import Gate, When
from support.deadline import DEADLINE_S
from support.killing import MODEL, STORING, World
from support.points import CREATES
from support.process import ServerProcess

PAUSED_KEY = "sk-of-the-paused-server"
CALLS_EACH = 5

ASKED_OF_OTHERS = 60

Hand = Callable[["Paused", str], Gate | None]
"""Takes the server and a model; gives the gate that holds its call to OpenAI, if one does."""


class Paused:
    """The server, what it has in hand, and what it does when it is back."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        """`stack` holds what the database is held by until the server is paused."""
        self.world, self.stack = world, stack
        self.server: ServerProcess = world.start(OPENAI_API_KEY=PAUSED_KEY)
        self.texts: dict[str, list[str]] = {}
        self._hands: list[str] = []
        self._gates: list[Gate | None] = []
        self._calls_before = 0

    def ask(self, model: str) -> None:
        """Calls that become a batch of this model."""
        self.texts[model] = [f"{model} {n}" for n in range(CALLS_EACH)]
        self.world.ask(self.server, self.texts[model], model)

    def take(self, hands: Sequence[str]) -> None:
        """Have a batch at each of these points, in the order of HANDS, and be paused."""
        self._hands = [name for name in HANDS if name in hands]
        self._gates = [HANDS[name](self, name) for name in self._hands]
        self.server.signal(signal.SIGSTOP)
        self._calls_before = len(self.calls())

    def release(self) -> None:
        """What was in the air acts now, or is answered."""
        for gate in self._gates:
            if gate is not None:
                gate.release()

    def cut(self) -> None:
        """What was in the air does not arrive any more."""
        for gate in self._gates:
            if gate is not None:
                gate.cut()

    def resume(self) -> None:
        self.server.signal(signal.SIGCONT)
        self.server.wait_ready()
        # Of every hand it says that another server has the batch, at the end of that hand's step.
        # It may say so of others too: a look at a batch may have been under way.
        for step, hands in Counter(STEPS[name] for name in self._hands).items():
            self.server.until_logged(f"lease_lost step={step}", hands)

    def calls(self) -> list[Call]:
        """Its calls to OpenAI."""
        return [call for call in self.world.simulator.requests.latest if call.key == PAUSED_KEY]

    def acted_since(self) -> list[str]:
        """Its calls since it was paused that may have changed something at OpenAI."""
        since = self.calls()[self._calls_before :]
        return [f"{call.method} {call.template}" for call in since if call.method != "GET"]


def _at_gate(route: str, when: When) -> Hand:
    def hold(paused: Paused, model: str) -> Gate | None:
        gate = paused.world.simulator.gate(route, when=when)
        paused.ask(model)
        gate.wait_reached(DEADLINE_S)
        return gate

    return hold


def _storing(paused: Paused, model: str) -> Gate | None:
    """Its transaction waits for a row; when it gets it, it stands open."""
    gate = paused.world.simulator.gate("GET /files/{id}/content", when="before")
    paused.ask(model)
    gate.wait_reached(DEADLINE_S)
    rows = (
        "select from sent join request using (seq) join route on route.id = route_id"
        f" where model = '{model}' for update of sent"
    )
    lock = paused.stack.enter_context(paused.world.locked(rows))
    gate.release()
    lock.until_blocks(STORING)
    return None


def _sending(paused: Paused, model: str) -> Gate | None:
    """Its intent to create is committed, and it has not heard so."""
    with paused.world.locked(CREATES) as lock:
        paused.ask(model)
        lock.until_blocks()
        paused.stack.enter_context(paused.world.commits_held())
        lock.release()
        paused.world.until_commit_waits()
    return None


HANDS: dict[str, Hand] = {
    "deleting-files": _at_gate("DELETE /files/{id}", "before"),
    "downloading": _at_gate("GET /files/{id}/content", "after"),
    "storing-results": _storing,
    "uploading": _at_gate("POST /files", "before"),
    "created-unanswered": _at_gate("POST /batches", "after"),
    "before-the-create": _sending,  # the last, because no other commit comes through
}

STEPS = {
    "deleting-files": "cleanup",
    "downloading": "collect",
    "storing-results": "collect",
    "uploading": "upload",
    "created-unanswered": "create",
    "before-the-create": "create",
}
"""Which step each hand belongs to."""


def three_servers(world: World, hands: Sequence[str], *, late: bool) -> list[str]:
    """One is paused with these in hand, one is killed, one restarts; whatever is wrong at the end.

    `late`: what the paused one had in the air never arrives; else it acts before it is back.
    """
    with ExitStack() as stack:
        paused = Paused(world, stack)
        paused.take(hands)
    killed, restarted = world.start(), world.start()
    texts = [f"meanwhile {n}" for n in range(ASKED_OF_OTHERS)]
    world.ask(killed, texts[::2])
    world.ask(restarted, texts[1::2])
    killed.kill()
    codes = [restarted.terminate()]
    others = [world.start(), world.start()]
    world.ask(others[0], texts)
    world.until_all_ended()
    if late:
        paused.resume()
        paused.cut()
    else:
        paused.release()
        paused.resume()
    found = world.wrong()
    for model, asked in [*paused.texts.items(), (MODEL, texts)]:
        for server in (paused.server, *others):
            answers = world.ask(server, asked, model)
            said = [answer["choices"][0]["message"]["content"] for answer in answers]
            if said != [f"You said: {text}" for text in asked]:
                found.append(f"{model}: a call has another one's answer")
    codes += [server.terminate() for server in (paused.server, *others)]
    if set(codes) != {0}:
        found.append(f"servers ended with {codes}")
    if len(world.simulator.batches()) != world.read("count(*) from batch"):
        found.append("a batch was created twice")
    # Nothing but taking back the file whose upload was in the air, if it arrived.
    allowed = ["DELETE /files/{id}"] if "uploading" in hands and not late else []
    if not set(paused.acted_since()) <= set(allowed):
        found.append(f"the paused server did {paused.acted_since()}")
    return found
