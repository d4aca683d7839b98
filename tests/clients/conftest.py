"""The servers that the clients are tested against.

`batch_server` and `patient_server` are real ones, on PostgreSQL and with the simulator in OpenAI's
place; `scripted` is none of ours and says whatever a test wants to hear.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

from clients.real_server import BatchServer, Running, real_server
from clients.scripted_server import ScriptedServer
from clients.serving import serving
from openaibatching import AsyncOpenAIBatching, OpenAIBatching
from openaibatching.client import asynchronous, sync
from support.postgres import Cluster, running_cluster
from support.world import TLS

LONG_S = 3600.0


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """PostgreSQL of one kind: the clients cannot tell one from the other."""
    with running_cluster("embedded") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def keys(request: pytest.FixtureRequest) -> list[str]:
    """The keys of as many tenants as there are tests."""
    return [f"key-{number}" for number, _ in enumerate(request.session.items)]


@pytest.fixture
def key(request: pytest.FixtureRequest, keys: list[str]) -> str:
    """The key of a tenant that only this test is."""
    return keys[request.session.items.index(request.node)]


@pytest.fixture(scope="module")
def prompt(
    postgres: Cluster, keys: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("prompt")
    with real_server(postgres, keys, folder, batch_attempts_max=1) as running:
        yield running


@pytest.fixture(scope="module")
def patient(
    postgres: Cluster, keys: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("patient")
    with real_server(postgres, keys, folder, batch_linger_s=LONG_S) as running:
        yield running


@pytest.fixture
def batch_server(prompt: Running, key: str) -> Iterator[BatchServer]:
    """A server that sends every call to OpenAI at once."""
    yield BatchServer(prompt.url, key, prompt.clock)
    prompt.clock.stop()


@pytest.fixture
def patient_server(patient: Running, key: str) -> BatchServer:
    """A server that keeps every call queued."""
    return BatchServer(patient.url, key, patient.clock)


@pytest.fixture
def client(batch_server: BatchServer) -> Iterator[OpenAIBatching]:
    with batch_server.client(max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(batch_server: BatchServer) -> AsyncIterator[AsyncOpenAIBatching]:
    async with AsyncOpenAIBatching(
        batch_server_url=batch_server.url,
        batch_server_api_key=batch_server.key,
        http_client=DefaultAsyncHttpxClient(verify=TLS),
        max_retries=0,
    ) as client:
        yield client


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server.app) as url:
        server.url = url
        yield server


@pytest.fixture
def foreign(scripted: ScriptedServer) -> Iterator[OpenAIBatching]:
    """A client of the scripted server."""
    with OpenAIBatching(
        batch_server_url=scripted.url,
        batch_server_api_key="k",
        http_client=DefaultHttpxClient(verify=TLS),
        max_retries=0,
    ) as client:
        yield client


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses the clients made, which take no time here."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(sync, "sleep", made.append)
    monkeypatch.setattr(asynchronous, "sleep", pause)
    return made
