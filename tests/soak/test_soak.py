"""A short run of the soak; `make soak` runs as many worlds as you like."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from soak import days, memory, processes
from support.postgres import Cluster

embedded = pytest.mark.parametrize("cluster", ["embedded"], indirect=True)


@pytest.fixture
def sockets_of_the_dead() -> Iterator[None]:
    """A server of this process that dies while it connects leaves a socket that nobody knows. With
    a process the kernel would close it; here the garbage collector does, and says so."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@embedded
@pytest.mark.usefixtures("sockets_of_the_dead")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_days_of_trouble_end_well(cluster: Cluster, tmp_path: Path, seed: int) -> None:
    assert days.run_world(seed, cluster, tmp_path).wrong == []


@pytest.mark.parametrize("seed", [0])
def test_servers_and_databases_that_die_lose_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    assert processes.run_world(seed, tmp_path).wrong == []


@embedded
def test_memory_stays_flat(cluster: Cluster, tmp_path: Path) -> None:
    assert memory.run_world(0, cluster, tmp_path, waves=8, calls=1500).wrong == []
