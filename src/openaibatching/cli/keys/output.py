"""What `openaibatching keys` shows: the key alone on stdout, the rest for people on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from openaibatching import terminal
from openaibatching.server.auth.key_cache import StoredKey

COLUMNS = ("id", "name", "tenant", "scope", "key", "created (UTC)", "last used (UTC)", "state")


class Made(NamedTuple):
    """A key, which nobody will see again, and what is kept of it."""

    key: str
    stored: StoredKey


def made(new: Made, *, as_json: bool) -> None:
    """Show a new key, this once."""
    if as_json:
        terminal.out_json(json.dumps(_described(new.stored) | {"key": new.key}, indent=2))
        return
    terminal.out(new.key)  # before the words, where both go to one place
    stored = new.stored
    until = f", until {_minute(stored.expires_at)} UTC" if stored.expires_at else ""
    terminal.say(
        f"The key '{stored.name}' of tenant '{stored.tenant}', scope {stored.scope}{until}, "
        f"id {stored.id}. It is not shown again: keep it now."
    )


def revoked(ended: StoredKey, *, as_json: bool) -> None:
    """Show that a key has ended."""
    if as_json:
        terminal.out_json(json.dumps(_described(ended), indent=2))
        return
    terminal.say(f"Key '{ended.name}' ({ended.id}) revoked.")


def all_keys(there: Sequence[StoredKey], *, as_json: bool) -> None:
    """Show the keys: as a table on a terminal, with tabs where another program reads."""
    if as_json:
        terminal.out_json(json.dumps([_described(key) for key in there], indent=2))
        return
    show_rows(COLUMNS, [_row(key) for key in there])


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, with tabs where another program reads."""
    if sys.stdout.isatty():
        _show_table(columns, rows)
        return
    for row in (columns, *rows):
        terminal.out("\t".join(map(terminal.clean, row)))


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    first, *others = columns
    table = Table(Column(first, no_wrap=True), *others, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(terminal.clean(cell)) for cell in row))  # a name is no markup
    Console().print(table)


def _row(key: StoredKey) -> tuple[str, ...]:
    state = key.state
    if key.ends_at is not None:
        state = f"{state if key.ended else 'ends'} {_minute(key.ends_at)}"
    used = _minute(key.last_used_at) if key.last_used_at else "never"
    made = _minute(key.created_at)
    return (str(key.id), key.name, key.tenant, key.scope, key.hint, made, used, state)


def _minute(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else ""


def _described(key: StoredKey) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "tenant": key.tenant,
        "scope": key.scope,
        "hint": key.hint,
        "state": key.state,
        "created_at": _seconds(key.created_at),
        "last_used_at": _seconds(key.last_used_at),
        "expires_at": _seconds(key.expires_at),
        "revoked_at": _seconds(key.revoked_at),
    }


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
