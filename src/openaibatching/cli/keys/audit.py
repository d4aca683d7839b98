"""`openaibatching audit`: who did what, when, and from where.

It works on the database directly, like `openaibatching keys`, so it needs no server and no key.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC

from openaibatching import terminal
from openaibatching.cli.keys.command import add_database, duration, run
from openaibatching.cli.keys.output import show_rows
from openaibatching.server.auth import audit
from openaibatching.server.auth.audit import ACTIONS, Written
from openaibatching.server.database.statements import Connection

LIMIT, LIMIT_MAX = 100, 100_000
COLUMNS = ("at (UTC)", "action", "tenant", "key", "address", "request id", "target", "n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code: 0, or 2 if the database is out of reach."""
    return run("audit", parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = terminal.Parser(
        prog="openaibatching audit",
        description="Show who signed in, presented wrong keys, changed keys, deleted, cancelled, "
        "retried or flushed: the newest first. Lines are kept for 90 days.",
        epilog="The database is that of POSTGRES_URL, from the environment only, or the embedded "
        "one in DATA_DIR.",
    )
    made.add_argument("--since", type=duration, default=duration("90d"), metavar="7d",
                      help="the last so many s, m, h, d or w [90d]")  # fmt: skip
    made.add_argument("--tenant", help="of this tenant only")
    made.add_argument("--action", choices=ACTIONS, help="of this kind only")
    made.add_argument(
        "--limit", type=_limit, default=LIMIT, metavar="N", help=f"so many lines [{LIMIT}]"
    )
    add_database(made)
    made.set_defaults(do=_read, show=_show)
    return made


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LIMIT_MAX):
        raise argparse.ArgumentTypeError(f"a limit is a whole number from 1 to {LIMIT_MAX}")
    return int(text)


async def _read(conn: Connection, options: argparse.Namespace) -> list[Written]:
    return await audit.read(conn, options.since, options.tenant, options.action, options.limit)


def _show(found: Sequence[Written], *, as_json: bool) -> None:
    if as_json:
        lines = [asdict(line) | {"at": round(line.at.timestamp(), 3)} for line in found]
        terminal.out_json(json.dumps(lines, indent=2))
        return
    show_rows(COLUMNS, [_row(line) for line in found])


def _row(line: Written) -> tuple[str, ...]:
    told = (line.action, line.tenant, line.key_name, line.address, line.request_id, line.target)
    return (
        f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", *(text or "" for text in told), str(line.n)
    )  # fmt: skip
