"""SIGKILL while a batch is stopped that its caller has cancelled: it stays cancelled."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from support.killing import KINDS, world_of
from support.points import CALLING_OFF, stays_called_off
from support.postgres import Cluster

LAG_S = 36_000.0


@pytest.mark.parametrize(
    ("kind", "point"), list(zip(itertools.cycle(KINDS), CALLING_OFF, strict=False))
)
def test_a_batch_that_its_caller_stopped_stays_stopped(
    installed: Cluster, tmp_path: Path, kind: str, point: str
) -> None:
    with world_of(kind, installed, tmp_path, lag=LAG_S) as world:
        CALLING_OFF[point](world)
        assert stays_called_off(world) == []
