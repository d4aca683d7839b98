"""There is a database, and it takes nothing; or there is no room for the files beside it."""

from __future__ import annotations

import resource
from pathlib import Path

from support import outage
from support.killing import world_of
from support.postgres import Cluster

SPOOL_BYTES, TEXTS, TEXT_BYTES = 1_000_000, 10, 200_000


def test_a_database_whose_connections_others_have_is_a_503_until_they_leave(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    with world_of("external", own_cluster, tmp_path, BATCH_LINGER_S=0.5) as world:
        assert outage.lives_through(world, outage.crowded(own_cluster), is_long=True) == []


def test_a_read_only_database_is_a_503_until_it_is_writable(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    with world_of("external", own_cluster, tmp_path, BATCH_LINGER_S=0.5) as world:
        assert outage.lives_through(world, outage.read_only(own_cluster), is_long=True) == []


def test_a_database_with_a_full_disk_is_a_503_until_there_is_room(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    with world_of("external", own_cluster, tmp_path, BATCH_LINGER_S=0.5) as world:
        away = outage.disk_full(world.url)
        assert outage.lives_through(world, away, is_long=True, ready=200) == []


def test_requests_wait_while_there_is_no_room_for_their_file(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    with world_of("external", own_cluster, tmp_path) as world:
        server = world.start()
        world.texts = [f"{n} " + "x" * TEXT_BYTES for n in range(TEXTS)]
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (SPOOL_BYTES, hard))
        world.ask(server)
        server.until_logged("spool_failed")
        assert world.read("count(*) from shown_request where finished_at is null") == TEXTS
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
        world.until_all_ended()
        assert world.wrong() == []
        assert server.terminate() == 0
