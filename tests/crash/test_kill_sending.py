"""SIGKILL at every point of a call's way to OpenAI.

After a restart, hands off, all is as it should be.

The points take turns between the kinds of PostgreSQL: somebody's, and the server's own one, which
survives its server or is killed with it. `make soak KILLS=200` is the whole matrix.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from support.killing import KINDS, world_of
from support.points import SENDING, goes_on
from support.postgres import Cluster


@pytest.mark.parametrize(
    ("kind", "point"), list(zip(itertools.cycle(KINDS), SENDING, strict=False))
)
def test_a_killed_server_goes_on_where_it_stopped(
    installed: Cluster, tmp_path: Path, kind: str, point: str
) -> None:
    with world_of(kind, installed, tmp_path) as world:
        SENDING[point](world)
        assert goes_on(world) == []
