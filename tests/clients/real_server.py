"""The real batch server, for its clients: on PostgreSQL, with the simulator in OpenAI's place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx2
from openai import DefaultHttpxClient

from openaibatching import OpenAIBatching
from openaibatching.server.app import in_thread
from openaibatching.simulator import Simulator, running
from support.deadline import DEADLINE_S
from support.postgres import Cluster
from support.world import TLS, settings_for

LAG_S, HASTE = 10.0, 1000.0


class Clock:
    """OpenAI's clock: it stands still until it runs, and then a thousand times too fast."""

    def __init__(self) -> None:
        # (what it showed when it was last touched, when that was, how fast it goes): replaced as
        # one, because other threads read it.
        self._state = (time(), monotonic(), 0.0)

    def __call__(self) -> float:
        shown, touched, speed = self._state
        return shown + (monotonic() - touched) * speed

    def run(self) -> None:
        self._state = (self(), monotonic(), HASTE)

    def stop(self) -> None:
        self._state = (self(), monotonic(), 0.0)


@dataclass(frozen=True)
class Running:
    """A batch server with many tenants, the clock of its OpenAI, and its database."""

    url: str
    clock: Clock
    database_url: str


@dataclass(frozen=True)
class BatchServer:
    """A running batch server, as one of its tenants sees it: nothing finishes until `finish()`."""

    url: str
    key: str
    clock: Clock

    def client(
        self, noting: Callable[[httpx2.Response], object] | None = None, **options: Any
    ) -> OpenAIBatching:
        """A client of this server; `noting` is told of every reply before the client is."""
        hooks: Any = {"response": [noting] if noting else []}
        return OpenAIBatching(
            batch_server_url=self.url,
            batch_server_api_key=self.key,
            http_client=DefaultHttpxClient(verify=TLS, event_hooks=hooks),
            **options,
        )

    def requests(self, **query: str) -> list[str]:
        """The ids of the tenant's requests."""
        with self._http() as http:
            page = http.get("/v1/requests", params={"limit": "100", **query}).json()
        return [request["id"] for request in page["data"]]

    def finish(self) -> None:
        """Let OpenAI finish what it has, and at once whatever it gets later in this test."""
        self.clock.run()
        with self._http() as http:
            # In this order, because a queued one is in progress next. Others may call meanwhile.
            for status in ("queued", "in_progress"):
                while ids := self.requests(status=status):
                    for id_ in ids:
                        reply = http.get(f"/v1/responses/{id_}", headers={"Prefer": "wait=240"})
                        assert reply.status_code != 202, f"{id_} has not finished"

    def _http(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, verify=TLS, timeout=DEADLINE_S)


@contextmanager
def real_server(
    postgres: Cluster, keys: list[str], folder: Path, **changes: Any
) -> Iterator[Running]:
    """A batch server of its own, with a tenant for each key."""
    clock = Clock()
    with (
        postgres.database() as database_url,
        running(Simulator(lag=LAG_S, clock=clock)) as upstream,
        in_thread(
            settings_for(
                upstream,
                folder,
                postgres_url=database_url,
                batch_server_api_key=",".join(f"tenant-of-{key}={key}" for key in keys),
                **changes,
            )
        ) as url,
    ):
        yield Running(url, clock, database_url)
