"""A page on a terminal, drawn by `rich` if it is installed, or as plain text anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from time import time
from typing import Any

from openaibatching import terminal
from openaibatching.cli.remote import formatting
from openaibatching.cli.remote.page import Column, For, Kind, Note, Page, Table, Text

STYLES = {
    "completed": "green", "closed": "green", "failed": "red", "expired": "red",
    "cancelled": "yellow",
}  # fmt: skip
BAD = "bold red"
WIDE, BAR_WIDTH = 120, 8
ON_THE_RIGHT = (Kind.NUMBER, Kind.MONEY)


def rich_terminal() -> bool:
    """Whether pages are drawn: stdout is a terminal, and `rich` is there."""
    if not sys.stdout.isatty():
        return False
    try:
        import rich  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def show(page: Page) -> None:
    """A page on stdout."""
    if rich_terminal():
        from rich.console import Console

        console = Console()
        console.print(drawn(page, console.width), highlight=False)
    else:
        terminal.out(plain(page))


# ----- plain text -----


def plain(page: Page) -> str:
    """Tables as a line of headings and a line a row, separated by tabs; notes begin with "#"."""
    lines: list[str] = []
    for part in page:
        match part:
            case Note():
                lines.append(f"# {terminal.clean(part.text)}")
            case Text():
                lines.extend(terminal.clean(line) for line in part.lines)
            case Table():
                lines.extend(_plain_table(part))
    return "\n".join(lines)


def _plain_table(table: Table) -> Iterable[str]:
    seen = [n for n, column in enumerate(table.columns) if column.seen_by != For.PEOPLE]
    if table.title:
        yield f"# {terminal.clean(table.title)}"
    yield "\t".join(table.columns[n].name for n in seen)
    for row in table.rows:
        yield "\t".join(_plain_cell(table.columns[n], row[n]) for n in seen)


def _plain_cell(column: Column, value: Any) -> str:
    if value is None:
        return ""
    match column.kind:
        case Kind.MONEY:
            return formatting.plain_money(value)
        case Kind.TIME | Kind.AHEAD:
            return formatting.when(value)
        case Kind.PROGRESS:
            return f"{value[0]}/{value[1]}"
        case _:
            return terminal.clean(value)


# ----- drawn by rich -----


def drawn(page: Page, width: int) -> Any:
    """The page as what `rich` prints on a terminal with so many columns."""
    from rich.console import Group
    from rich.text import Text as Words

    parts: list[Any] = []
    for part in page:
        match part:
            case Note():
                style = BAD if part.urgent else "dim"
                parts.append(Words(terminal.clean(part.text), style))
            case Text():
                parts.append(Words("\n".join(map(terminal.clean, part.lines))))
            case Table():
                parts.extend(_drawn_table(part, wide=width >= WIDE))
    return Group(*parts)


def _drawn_table(table: Table, *, wide: bool) -> Iterable[Any]:
    from rich.table import Table as Drawn
    from rich.text import Text as Words

    if not table.rows:
        if table.empty:
            yield Words(f"{table.empty}\n", "dim")
        return
    if table.title:
        yield Words(table.title[:1].upper() + table.title[1:], BAD if table.urgent else "bold")
    seen = [
        n for n, column in enumerate(table.columns) if _is_drawn(column, table.rows, n, wide=wide)
    ]
    made = Drawn(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in (table.columns[n] for n in seen):
        made.add_column(
            column.name,
            justify="right" if column.kind in ON_THE_RIGHT else "left",
            no_wrap=column.kind != Kind.TEXT,
            overflow="fold",
        )
    now = time()
    for row in table.rows:
        made.add_row(*(_drawn_cell(table.columns[n], row[n], now, wide=wide) for n in seen))
    yield made
    yield Words("")


def _is_drawn(column: Column, rows: Sequence[Sequence[Any]], n: int, *, wide: bool) -> bool:
    """Whether people see the n-th column."""
    if column.seen_by == For.WHERE_ANY:
        return any(row[n] for row in rows)
    return column.seen_by in (For.ALL, For.PEOPLE) or (wide and column.seen_by == For.WIDE)


def _drawn_cell(column: Column, value: Any, now: float, *, wide: bool) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table as Drawn
    from rich.text import Text as Words

    if value is None:
        return Words("-", "dim")
    match column.kind:
        case Kind.NUMBER:
            return Words(f"{value:,}")
        case Kind.MONEY:
            return Words(formatting.money(value))
        case Kind.TIME:
            return Words(formatting.recently(value, now))
        case Kind.AHEAD:
            return Words(formatting.ahead(value, now))
        case Kind.PROGRESS:
            done, all_ = value
            counts = Words(f"{done:,}/{all_:,}")
            if not wide:
                return counts
            both = Drawn.grid(padding=(0, 1, 0, 0))
            both.add_row(ProgressBar(max(1, all_), done, width=BAR_WIDTH), counts)
            return both
        case _:
            return Words(terminal.clean(value), STYLES.get(str(value), ""))
