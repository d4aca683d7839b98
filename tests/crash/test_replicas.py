"""Three servers on one database: one is killed, one is paused beyond its lease, one restarts."""

from __future__ import annotations

from pathlib import Path

from support.hands import HANDS, three_servers
from support.killing import world_of
from support.postgres import Cluster


def test_no_batch_is_made_or_collected_twice_and_none_is_left_behind(
    installed: Cluster, tmp_path: Path
) -> None:
    with world_of("external", installed, tmp_path) as world:
        assert three_servers(world, list(HANDS), late=False) == []
