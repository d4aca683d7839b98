"""What the commands make of times, money and tables."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from openaibatching.cli.remote import formatting, screen
from openaibatching.cli.remote.page import Column, For, Kind, Note, Page, Table, Text

NOON = 1795608000  # 2026-11-25 12:00 UTC


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("usd", "said", "plain"),
    [
        (0, "$0.00", "0"),
        (0.0000351, "$0.0000351", "0.0000351"),
        (6.375e-05, "$0.0000638", "0.00006375"),
        (0.0127, "$0.0127", "0.0127"),
        (0.5, "$0.500", "0.5"),
        (12.345, "$12.34", "12.345"),
        (1234567.891, "$1,234,567.89", "1234567.891"),
        (-0.25, "-$0.250", "-0.25"),
    ],
)
def test_money_has_the_digits_that_say_something(usd: float, said: str, plain: str) -> None:
    assert formatting.money(usd) == said
    assert formatting.plain_money(usd) == plain


@pytest.mark.usefixtures("in_utc")
def test_times_of_today_are_short_and_times_to_come_say_how_far_they_are() -> None:
    assert formatting.when(NOON) == "2026-11-25 12:00:00"
    assert formatting.recently(NOON - 90, NOON) == "11:58:30"
    assert formatting.recently(NOON - 86_400, NOON) == "2026-11-24 12:00"
    assert formatting.ahead(NOON + 600, NOON) == "12:10 (in 10 min)"
    assert formatting.ahead(NOON + 86_400, NOON) == "2026-11-26 12:00 (in 24 h 0 min)"
    assert formatting.ahead(NOON - 60, NOON) == "11:59"


@pytest.mark.usefixtures("in_utc")
def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-5:30")
    time.tzset()
    assert formatting.when(NOON) == "2026-11-25 17:30:00"


PAGE: Page = [
    Note("a note"),
    Table(
        (Column("name"), Column("n", Kind.NUMBER), Column("usd", Kind.MONEY),
         Column("at", Kind.TIME), Column("done", Kind.PROGRESS), Column("none", Kind.TIME),
         Column("own", seen_by=For.PEOPLE), Column("raw", seen_by=For.SCRIPTS),
         Column("lost", Kind.MONEY, For.WHERE_ANY)),
        [("a\tb\n\x1b[31m\x9b1m\ud800", 12345, 0.000035, NOON, (3, 4), None, "mine", "raw", 0)],
        title="things",
    ),
    Table((Column("x"),), [], title="nothing", empty="There is nothing."),
    Table((Column("y"),), [], title="unseen"),
    Text(["{", '  "a": 1', "}"]),
]  # fmt: skip


@pytest.mark.usefixtures("in_utc")
def test_plain_text_has_the_same_columns_whatever_is_in_them() -> None:
    evil = "a b \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}1m\N{REPLACEMENT CHARACTER}"
    assert screen.plain(PAGE).split("\n") == [
        "# a note",
        "# things",
        "name\tn\tusd\tat\tdone\tnone\traw\tlost",
        f"{evil}\t12345\t0.000035\t2026-11-25 12:00:00\t3/4\t\traw\t0",
        "# nothing", "x",
        "# unseen", "y",
        "{", '  "a": 1', "}",
    ]  # fmt: skip


def draw(page: Page, width: int) -> str:
    to = io.StringIO()
    Console(file=to, width=width, force_terminal=True).print(
        screen.drawn(page, width), highlight=False
    )
    return to.getvalue()


def test_drawn_tables_leave_out_what_is_empty_and_obey_no_name() -> None:
    drawn = draw(PAGE, 160)
    assert "There is nothing." in drawn
    for shown in ("12,345", "$0.0000350", "3/4", "mine", "Things"):
        assert shown in drawn
    for hidden in ("raw", "lost", "Unseen", "\x1b[31m", "\x9b"):
        assert hidden not in drawn


def test_a_bar_is_drawn_where_there_is_room() -> None:
    table = Table((Column("done", Kind.PROGRESS),), [((1, 2),)])
    assert "━" in draw([table], screen.WIDE)
    narrow = draw([table], screen.WIDE - 1)
    assert "━" not in narrow
    assert "1/2" in narrow
