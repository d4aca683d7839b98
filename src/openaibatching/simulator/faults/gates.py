"""Holding or cutting a call at a chosen moment, from another thread."""

import asyncio
import threading
import uuid
from typing import Literal

When = Literal["before", "after"]


class Gate:
    """Stops the next call of one route, once.

    when="before": nothing has happened yet. when="after": it has acted, and the reply is held.
    Released or cut before a call comes, it lets that call pass or cuts it on arrival.
    """

    def __init__(self, route: str, when: When) -> None:
        self.id = uuid.uuid4().hex
        self.route = route
        self.when = when
        self._lock = threading.Lock()
        self._reached = threading.Event()
        self._decision: Literal["release", "cut"] | None = None
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def reached(self) -> bool:
        """Whether a call stands, or stood, at the gate."""
        return self._reached.is_set()

    def wait_reached(self, timeout: float = 10.0) -> bool:
        """Wait for a call to arrive; TimeoutError after `timeout` seconds, else True."""
        if not self._reached.wait(timeout):
            raise TimeoutError(f"no {self.route} came to the gate within {timeout} s")
        return True

    def release(self) -> None:
        """Let the call go on."""
        self._decide("release")

    def cut(self) -> None:
        """Close the call's connection without a reply."""
        self._decide("cut")

    def _decide(self, decision: Literal["release", "cut"]) -> None:
        with self._lock:
            self._decision = self._decision or decision
            if self._waiter is not None:
                loop, event = self._waiter
                self._waiter = None
                loop.call_soon_threadsafe(event.set)

    async def stop_here(self) -> bool:
        """Hold the caller; True when it is to be cut."""
        event = asyncio.Event()
        with self._lock:
            decided = self._decision is not None
            if not decided:
                self._waiter = (asyncio.get_running_loop(), event)
        self._reached.set()
        if not decided:
            await event.wait()
        return self._decision == "cut"

    def view(self) -> dict[str, object]:
        """For the control over HTTP."""
        return {
            "id": self.id,
            "on": self.route,
            "when": self.when,
            "reached": self.reached,
            "decision": self._decision,
        }


class Gates:
    """All gates that were set up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Gate] = []
        self._all: dict[str, Gate] = {}

    def add(self, route: str, when: When) -> Gate:
        """Set up a gate for the next call of `route`, e.g. `POST /batches`."""
        gate = Gate(route, when)
        with self._lock:
            self._waiting.append(gate)
            self._all[gate.id] = gate
        return gate

    def get(self, id_: str) -> Gate | None:
        """A gate by its id."""
        with self._lock:
            return self._all.get(id_)

    def take(self, route: str, when: When) -> Gate | None:
        """The gate that the current call runs into; it will stop no other."""
        with self._lock:
            for gate in self._waiting:
                if (gate.route, gate.when) == (route, when):
                    self._waiting.remove(gate)
                    return gate
        return None

    def open_all(self) -> None:
        """Cut whatever is held, so that a server can stop."""
        with self._lock:
            gates, self._waiting = list(self._all.values()), []
        for gate in gates:
            gate.cut()
