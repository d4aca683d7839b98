"""`openaibatching cost`: what was paid, and what it would have cost in real time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from openaibatching.cli.remote import command
from openaibatching.cli.remote.api_client import Server
from openaibatching.cli.remote.exit_codes import DONE
from openaibatching.cli.remote.page import Column, For, Kind, Page, Table

GROUPS = ("day", "model", "endpoint")
DAYS = 30

COLUMNS = (
    Column("answers", Kind.NUMBER), Column("input", Kind.NUMBER),
    Column("cached", Kind.NUMBER, For.WHERE_ANY), Column("output", Kind.NUMBER),
    Column("reasoning", Kind.NUMBER, For.WHERE_ANY), Column("paid", Kind.MONEY),
    Column("realtime", Kind.MONEY), Column("saved", Kind.MONEY),
    Column("lost", Kind.MONEY, For.WHERE_ANY), Column("unpriced", Kind.NUMBER, For.WHERE_ANY),
    Column("incomplete", Kind.NUMBER, For.WHERE_ANY),
)  # fmt: skip
MEMBERS = (
    "answers", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "paid",
    "realtime", "saved", "lost", "unpriced", "incomplete",
)  # fmt: skip
"""Of a Cost of the API, as COLUMNS."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return command.run(parser(), arguments)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = command.parser(
        "cost",
        "Tokens and US dollars of this key's tenant: paid at batch price, what the same calls cost "
        "in real time, and what was saved. `lost` was paid for answers that could not be kept, "
        "`unpriced` answers have no known price, and the receipts of `incomplete` ones leave "
        "something out. Days are UTC.",
    )
    made.add_argument(
        "--by", nargs="+", choices=GROUPS, default=["day"], help="a line for each of these [day]"
    )
    made.add_argument(
        "--days", type=command.at_least(1), default=DAYS, metavar="N",
        help=f"so many days, today included [{DAYS}]",
    )  # fmt: skip
    command.asks(made, cost)
    return made


def cost(server: Server, options: argparse.Namespace) -> int:
    """The costs, grouped."""
    groups = list(dict.fromkeys(options.by))
    reply = server.get("/costs", group_by=",".join(groups), days=options.days)
    command.show(options, reply, lambda data: by(groups, data))
    return DONE


def by(groups: Sequence[str], data: dict[str, Any]) -> Page:
    """A row for each group, and their sum."""
    rows = [[*(one[group] for group in groups), *cells(one)] for one in data["data"]]
    total = ["total", *("" for _ in groups[1:]), *cells(data["total"])]
    columns = (*(Column(group) for group in groups), *COLUMNS)
    return [Table(columns, [*rows, total])]


def cells(cost: dict[str, Any]) -> list[Any]:
    """A Cost of the API as the cells of COLUMNS."""
    return [cost[name] for name in MEMBERS]
