"""`openaibatching status`: what waits and why, what is under way, what failed, what it cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from openaibatching.cli.remote import batches, command, cost, formatting
from openaibatching.cli.remote.api_client import Server
from openaibatching.cli.remote.exit_codes import DONE
from openaibatching.cli.remote.page import Column, For, Kind, Note, Page, Table
from openaibatching.cli.remote.watch import watch

EVERY_S = 2.0

QUEUE = (
    Column("model"), Column("endpoint"), Column("requests"), Column("oldest", Kind.TIME),
    Column("reason", seen_by=For.SCRIPTS), Column("until", Kind.AHEAD, For.WHERE_ANY),
    Column("why"),
)  # fmt: skip
STUCK = (
    Column("batch"), Column("model"), Column("since", Kind.TIME), Column("reason"),
)  # fmt: skip
FAILURES = (
    Column("requests", Kind.NUMBER), Column("status", Kind.NUMBER), Column("code"),
    Column("model"), Column("endpoint", seen_by=For.SCRIPTS), Column("last", Kind.TIME),
    Column("example"),
)  # fmt: skip
UNREAD = (
    Column("answers", Kind.NUMBER), Column("paid", Kind.MONEY), Column("since", Kind.TIME),
    Column("what to do"),
)  # fmt: skip
ASK = (
    "if their program has ended: docs/evals.md; if its prompts hold a clock: X-Batching-Body: first"
)
BUDGET = tuple(Column(name, Kind.MONEY) for name in ("a day", "spent", "reserved"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return command.run(parser(), arguments)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = command.parser(
        "status",
        "What is queued and why it waits, the batches under way, failures by reason, tokens and "
        "money, as this key's tenant sees them.",
    )
    made.add_argument(
        "--watch", action="store_true", help="look again and again, until Ctrl-C ends it with 0"
    )
    made.add_argument(
        "--every", type=_seconds, default=EVERY_S, metavar="S",
        help=f"seconds between two looks [{EVERY_S:g}]",
    )  # fmt: skip
    command.asks(made, status)
    return made


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"seconds from 0.1 to 86400, not {text!r}")
    return seconds


def status(server: Server, options: argparse.Namespace) -> int:
    """How things are, once or again and again."""

    def page(stats: dict[str, Any]) -> Page:
        return glance(stats, server.shown)

    if options.watch:
        return watch(server, "/stats", options, page)
    command.show(options, server.get("/stats"), page)
    return DONE


def glance(stats: dict[str, Any], url: str) -> Page:
    """The API's stats, in the order in which somebody in a hurry reads."""
    requests = stats["requests"]
    costs = (("today", stats["costs"]["today"]), ("30 days", stats["costs"]["last_30_days"]))
    return [
        Note(f"{url}, tenant {stats['tenant']}, {formatting.when(stats['created_at'])}"),
        Table(
            [Column(name, Kind.NUMBER) for name in requests], [list(requests.values())], "requests"
        ),
        _stuck(stats["stuck"]),
        Table(UNREAD, _unread(stats.get("unread")), "answers that nobody asks for"),
        Table(QUEUE, [_queued(one) for one in stats["queue"]], "queue", "Nothing is queued."),
        batches.table(stats["batches"], "batches", "No batch is under way."),
        Table(FAILURES, [_failed(one) for one in stats["failures"]], "failures of 7 days"),
        Table(
            (Column("cost"), *cost.COLUMNS),
            [(name, *cost.cells(one)) for name, one in costs], "tokens and US dollars",
        ),
        _budget(stats["budget"]),
    ]  # fmt: skip


def _queued(one: dict[str, Any]) -> list[Any]:
    count = f"{one['requests']:,}" + ("+" if one["requests_capped"] else "")
    return [
        one["model"], one["endpoint"], count, one["oldest_queued_at"], one["reason"], one["until"],
        one["detail"],
    ]  # fmt: skip


def _stuck(stuck: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (batches.name(b), b["model"], b["submitted_at"] or b["created_at"], b["reason"])
        for b in stuck
    ]
    return Table(STUCK, rows, "stuck", urgent=True)


def _unread(unread: dict[str, Any] | None) -> list[tuple[Any, ...]]:
    return [(unread["answers"], unread["paid"], unread["since"], ASK)] if unread else []


def _failed(one: dict[str, Any]) -> list[Any]:
    return [
        one["requests"], one["status_code"], one["code"], one["model"], one["endpoint"],
        one["last_at"], one["example"],
    ]  # fmt: skip


def _budget(budget: dict[str, Any]) -> Table:
    """What may be spent today; people do not see it where there is no limit."""
    limit = budget["usd_day"]
    rows = [] if limit is None else [(limit, budget["spent"], budget["reserved"])]
    return Table(BUDGET, rows, "budget of today")
