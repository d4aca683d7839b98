"""The database goes away and comes back: nothing that was accepted is missing afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import outage
from support.killing import world_of
from support.postgres import Cluster


@pytest.mark.parametrize("way", outage.SHORT)
def test_a_short_time_without_the_database_is_hardly_noticed(
    own_cluster: Cluster, tmp_path: Path, way: str
) -> None:
    with world_of("external", own_cluster, tmp_path, BATCH_LINGER_S=0.5) as world:
        assert outage.lives_through(world, outage.SHORT[way](own_cluster), is_long=False) == []


def test_a_database_that_crashed_is_a_503_and_everything_goes_on_afterwards(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    with world_of("external", own_cluster, tmp_path, BATCH_LINGER_S=0.5) as world:
        assert outage.lives_through(world, outage.crashed(own_cluster), is_long=True) == []
