"""What a command shows, whatever it is shown on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(Enum):
    """What a cell holds; None is nothing in each of them."""

    TEXT = "text"
    NUMBER = "number"
    MONEY = "US dollars"
    TIME = "Unix seconds"
    AHEAD = "Unix seconds to come"
    PROGRESS = "(done, all)"


class For(Enum):
    """Who sees a column: there is room for fewer on a terminal than in a script's input."""

    ALL = "all"
    PEOPLE = "people"
    SCRIPTS = "scripts"
    WIDE = "scripts, and people with a wide terminal"
    WHERE_ANY = "scripts, and people where something is in it"


@dataclass(frozen=True)
class Column:
    """A column's heading, what its cells hold, and who sees it."""

    name: str
    kind: Kind = Kind.TEXT
    seen_by: For = For.ALL


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each column. `empty` is what people read where there is no row; if it
    is "", they do not see such a table at all. `urgent` is what somebody should look into."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    empty: str = ""
    urgent: bool = False


@dataclass(frozen=True)
class Note:
    """A line in words; `urgent` is what somebody should look into."""

    text: str
    urgent: bool = False


@dataclass(frozen=True)
class Text:
    """Lines that stand for themselves."""

    lines: Sequence[str]


Part = Table | Note | Text
Page = Sequence[Part]


def facts(members: Sequence[tuple[str, str | None]]) -> Table:
    """One thing, a line for each of its members that is there."""
    rows = [(name, value) for name, value in members if value is not None]
    return Table((Column("member"), Column("value")), rows)
