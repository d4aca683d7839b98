"""The schema is set up once, by one of many, and old ones are brought up to date."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from openaibatching.cli.main import main
from openaibatching.server.database.migrations import migrate, schema_version
from openaibatching.server.errors import ConfigError
from support.postgres import Cluster


def version(url: str) -> object:
    with psycopg.connect(url) as conn:
        row = conn.execute("select version from openaibatching.meta").fetchone()
        assert row is not None
        return row[0]


async def test_ten_servers_that_start_at_once_set_it_up_once(cluster: Cluster) -> None:
    with cluster.database() as url:
        await asyncio.gather(*(migrate(url, wait_s=5) for _ in range(10)))
        assert version(url) == schema_version()


async def test_a_second_start_changes_nothing(database_url: str) -> None:
    await migrate(database_url, wait_s=5)
    assert version(database_url) == schema_version()


async def test_an_older_schema_is_migrated_step_by_step(database_url: str) -> None:
    known = schema_version()
    steps = {
        known + 1: "alter table openaibatching.request add column one int",
        known + 2: "alter table openaibatching.request add column two int default 2",
    }
    await migrate(database_url, wait_s=5, steps=steps)
    assert version(database_url) == known + 2
    with psycopg.connect(database_url) as conn:
        conn.execute("select one, two from openaibatching.request")


async def test_a_step_that_fails_leaves_the_schema_as_it_was(database_url: str) -> None:
    known = schema_version()
    steps = {
        known + 1: "alter table openaibatching.request add column one int",
        known + 2: "alter table openaibatching.nowhere add column two int",
    }
    with pytest.raises(ConfigError, match=r"POSTGRES_URL.*nowhere"):
        await migrate(database_url, wait_s=5, steps=steps)
    assert version(database_url) == known
    with psycopg.connect(database_url) as conn, pytest.raises(psycopg.errors.UndefinedColumn):
        conn.execute("select one from openaibatching.request")


async def test_a_newer_schema_than_this_program_knows_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("update openaibatching.meta set version = version + 1")
    with pytest.raises(ConfigError, match="update it"):
        await migrate(database_url, wait_s=5)


async def test_a_table_that_somebody_holds_is_not_waited_for_without_an_end(
    database_url: str,
) -> None:
    steps = {schema_version() + 1: "alter table openaibatching.request add column one int"}
    with psycopg.connect(database_url) as holder:
        holder.execute("lock table openaibatching.request in access share mode")
        with pytest.raises(ConfigError, match="another session has held one of our tables"):
            await migrate(database_url, wait_s=5, steps=steps)
    assert version(database_url) == schema_version()
    await migrate(database_url, wait_s=5, steps=steps)
    assert version(database_url) == schema_version() + 1


def there(url: str) -> bool:
    with psycopg.connect(url) as conn:
        row = conn.execute("select to_regnamespace('openaibatching') is not null").fetchone()
    return row == (True,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (None, "no server has set this database up: start `openaibatching serve` first"),
        (-1, "update the servers, which migrate it at their start"),
        (+1, "this program knows 1: update it"),
    ],
)
@pytest.mark.parametrize("words", [("list",), ("create", "x"), ("revoke", "x")])
def test_a_command_never_migrates(
    words: tuple[str, ...], change: int | None, told: str, cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with cluster.database() as url:
        if change is not None:
            asyncio.run(migrate(url, wait_s=5))
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("update openaibatching.meta set version = version + %s", [change])
        monkeypatch.setenv("POSTGRES_URL", url)
        assert main(["keys", *words]) == 2
        assert told in capsys.readouterr().err
        assert there(url) == (change is not None)
        if change is not None:
            assert version(url) == schema_version() + change


async def test_an_unreachable_database_is_named_after_the_wait() -> None:
    with pytest.raises(ConfigError, match="POSTGRES_URL"):
        await migrate("postgresql://nobody@127.0.0.1:1/none", wait_s=0)
