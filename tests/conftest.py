"""Fixtures: real PostgreSQL of both kinds, a fresh database a test, the simulator, a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from openaibatching.server.app import Service
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.migrations import migrate
from openaibatching.server.database.pool import Database
from openaibatching.server.pipeline.context import Context
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.simulator import Simulator, running
from support.postgres import KINDS, Cluster, running_cluster, system_binaries
from support.world import Clock, running_service, settings_for

TEMPLATE = "openaibatching_template"


LONG = (
    "test_distribution", "test_kill_answering", "test_kill_sending", "test_real_input", "test_soak",
    "test_replicas", "test_database_away", "test_database_full", "test_pages", "test_browser",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """PostgreSQL, started once: every test that needs it runs on both kinds."""
    if request.param == "system" and system_binaries() is None:
        pytest.skip("no PostgreSQL 14 or newer is installed here: ran on the embedded one only")
    with running_cluster(request.param) as cluster:
        cluster.execute(f"create database {TEMPLATE}")
        asyncio.run(migrate(cluster.url_of(TEMPLATE), wait_s=5))
        yield cluster


@pytest.fixture
def database_url(cluster: Cluster) -> Iterator[str]:
    """A fresh database with the schema."""
    with cluster.database(TEMPLATE) as url:
        yield url


@dataclass(frozen=True)
class Upstreamed:
    """A running simulator and where it listens."""

    simulator: Simulator
    base_url: str


@pytest.fixture
def upstream() -> Iterator[Upstreamed]:
    """OpenAI's stand-in, which finishes a batch as soon as it is looked at."""
    simulator = Simulator(lag=0.0)
    with running(simulator) as base_url:
        yield Upstreamed(simulator, base_url)


@pytest.fixture
def simulator(upstream: Upstreamed) -> Simulator:
    return upstream.simulator


@pytest.fixture
def settings(upstream: Upstreamed, tmp_path: Path) -> Settings:
    return settings_for(upstream.base_url, tmp_path)


@pytest.fixture
async def service(database_url: str, settings: Settings) -> AsyncIterator[Service]:
    """A whole server in this process."""
    async with running_service(database_url, settings) as service:
        yield service


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ctx(database_url: str, settings: Settings, clock: Clock) -> AsyncIterator[Context]:
    """What a step is given, with a clock that the test turns. No worker runs."""
    database = Database(database_url, connections_max=4)
    await database.open()
    context = Context(settings, database, Upstream(settings), clock)
    yield context
    await context.upstream.close()
    await database.close()


@pytest.fixture
def rows(database_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A look at the tables."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        yield conn
