"""The named statements of sql/, and how one is executed. SQL is nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import AsyncRowFactory, tuple_row

from openaibatching.server.errors import UnstorableText

T = TypeVar("T")
ROWS_AT_ONCE = 2000
"""What is written for the database, or read from it, in one go, is time that all callers wait."""


def parts(items: Sequence[T]) -> Iterator[list[T]]:
    """The items, at most ROWS_AT_ONCE at a time."""
    for start in range(0, len(items), ROWS_AT_ONCE):
        yield list(items[start : start + ROWS_AT_ONCE])


Connection = AsyncConnection[Any]
S = TypeVar("S", bound=msgspec.Struct)


def _load(text: str) -> dict[str, bytes]:
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {
        name: body.strip().encode() for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def sql_text(name: str) -> str:
    """One of the package's SQL files, by its name below sql/."""
    return (
        resources.files("openaibatching.server.database").joinpath("sql", name).read_text("utf-8")
    )


SCHEMA_FILES = ("schema.sql", "schema_requests.sql", "schema_access.sql")
"""What a new database is made of, in this order."""
QUERY_FILES = (
    "queries.sql", "requests.sql", "collect.sql", "limits.sql", "money.sql", "reports.sql",
    "keys.sql", "access.sql", "page.sql", "requirements.sql",
)  # fmt: skip
QUERIES = {name: query for file in QUERY_FILES for name, query in _load(sql_text(file)).items()}
"""{name: statement} of these files; no name is in two of them (a test says so)."""


_NO_TEXT = (None, "22021", "22P05")
"""SQLSTATEs of a text that cannot be stored: a NUL (None: psycopg found it, before anything was
sent), bytes or a character that the database's encoding does not have."""


async def execute(
    conn: Connection,
    name: str,
    params: dict[str, Any],
    row_factory: AsyncRowFactory[Any] = tuple_row,
) -> AsyncCursor[Any]:
    """Run the named query on `conn` and return its cursor. Results travel in binary.

    Raises UnstorableText for a parameter that PostgreSQL does not take as text.
    """
    cursor = conn.cursor(binary=True, row_factory=row_factory)
    try:
        return await cursor.execute(QUERIES[name], params)
    except UnicodeEncodeError:  # a lone surrogate
        raise UnstorableText from None
    except psycopg.DataError as error:
        if error.sqlstate not in _NO_TEXT:
            raise
        raise UnstorableText from None


async def value(conn: Connection, name: str, params: dict[str, Any]) -> Any:
    """The first column of the named query's first row; None if there is no row."""
    row = await (await execute(conn, name, params)).fetchone()
    return None if row is None else row[0]


def struct_row(kind: type[S]) -> AsyncRowFactory[S]:
    """Rows as Structs whose fields are the columns, in the same order: psycopg's class_row names
    each value of each row, which costs ten times as much."""
    fields = kind.__struct_fields__

    def maker(cursor: AsyncCursor[Any]) -> Callable[[Sequence[Any]], S]:
        columns = tuple(column.name for column in cursor.description or ())
        assert columns in ((), fields), f"{kind.__name__} has other fields than {columns}"
        return lambda values: kind(*values)

    return maker
