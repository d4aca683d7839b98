"""Servers that the tests of a file share. Each test uses calls of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.door import Door, open_door
from support.postgres import Cluster

LONG_S = 3600.0


@pytest.fixture(scope="module")
async def quiet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server that sends nothing: what is queued stays queued."""
    folder = tmp_path_factory.mktemp("quiet")
    async with open_door(
        cluster, folder, batch_linger_s=LONG_S, batch_poll_s=30, batch_settle_s=60, wait_s_max=3
    ) as door:
        yield door


@pytest.fixture(scope="module")
async def lively(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server whose calls are answered at once."""
    folder = tmp_path_factory.mktemp("lively")
    async with open_door(cluster, folder, batch_attempts_max=1) as door:
        yield door


@pytest.fixture(scope="module")
async def sent(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server whose calls are sent at once and stay in progress."""
    folder = tmp_path_factory.mktemp("sent")
    async with open_door(cluster, folder, lag=LONG_S, batch_settle_s=60) as door:
        yield door


@pytest.fixture(scope="module")
async def patient(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """A server that waits long for company, and is quick with what it sends."""
    folder = tmp_path_factory.mktemp("patient")
    async with open_door(cluster, folder, batch_linger_s=LONG_S) as door:
        yield door
