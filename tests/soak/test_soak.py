"""A short run of the soak; `make soak` runs as many worlds as you like."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.seeded import run_world
from support.postgres import Cluster


@pytest.mark.parametrize("cluster", ["embedded"], indirect=True)
@pytest.mark.parametrize("seed", [0])
def test_a_seeded_world_ends_well(cluster: Cluster, tmp_path: Path, seed: int) -> None:
    assert run_world(seed, cluster, tmp_path).wrong == []
