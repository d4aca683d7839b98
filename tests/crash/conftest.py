"""What tests with processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.postgres import Cluster, running_cluster, system_binaries


@pytest.fixture(scope="session")
def installed() -> Iterator[Cluster]:
    """An installed PostgreSQL; where there is none, one more embedded one stands in for it."""
    with running_cluster("system" if system_binaries() else "embedded") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that nobody else uses, to be mistreated."""
    with running_cluster("embedded") as cluster:
        yield cluster
