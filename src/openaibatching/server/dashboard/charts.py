"""Bars as inline SVG: no script, no style attribute, no text inside that would be scaled. Pure.

A bar is two parts, one on the other. The labels stand in HTML beside it (templates/macros.html).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from openaibatching.server.dashboard.formatting import DAY_S, money, number

HEIGHT, STEP, GAP = 100.0, 10.0, 2.0
HOUR_S, HOURS, DAYS = 3600, 48, 30


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: when it begins (Unix seconds), its two parts, and what is said of it."""

    at: int
    first: float
    second: float
    said: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture and what stands around it. `top` is the value at the upper edge."""

    svg: Markup
    bars: list[Bar]
    top: str
    empty: bool


def answers(by_hour: Sequence[dict[str, Any]], now: int) -> Chart:
    """Answers and failures of the last 48 hours; hours that are left out had none."""
    given = {int(hour["hour"]): hour for hour in by_hour}
    last = now // HOUR_S * HOUR_S
    bars = []
    for at in range(last - (HOURS - 1) * HOUR_S, last + 1, HOUR_S):
        good, failed = (given.get(at, {}).get(name, 0) for name in ("answers", "failed"))
        bars.append(Bar(at, good, failed, f"{number(good)} answered, {number(failed)} failed"))
    return _chart(bars, "Answers by hour, the last 48 hours", "answers", "failed", number)


def savings(by_day: Sequence[dict[str, Any]], now: int) -> Chart:
    """What was paid and saved on each of the last 30 days, in UTC."""
    given = {day["day"]: day for day in by_day}
    last = now // DAY_S * DAY_S
    bars = []
    for at in range(last - (DAYS - 1) * DAY_S, last + 1, DAY_S):
        day = given.get(f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}", {})
        paid, saved = day.get("paid", 0.0), max(0.0, day.get("saved", 0.0))
        bars.append(Bar(at, paid, saved, f"{money(paid)} paid, {money(saved)} saved"))
    return _chart(bars, "Paid and saved by day, the last 30 days", "paid", "saved", money)


def _chart(
    bars: list[Bar], label: str, first: str, second: str, unit: Callable[[float], str]
) -> Chart:
    top = max(bar.first + bar.second for bar in bars)
    scale = HEIGHT / top if top else 0.0
    drawn = [_bar(n, bar, scale, first, second) for n, bar in enumerate(bars)]
    svg = Markup(
        '<svg class="chart" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(len(bars) * STEP, HEIGHT, label, Markup("").join(drawn))
    return Chart(svg, bars, unit(top), not top)


def _bar(n: int, bar: Bar, scale: float, first: str, second: str) -> Markup:
    """Both parts, and over the whole height a field that says what they are."""
    x, width = n * STEP + GAP / 2, STEP - GAP
    low, high = bar.first * scale, bar.second * scale
    part = Markup('<rect class="{}" x="{:g}" y="{:.2f}" width="{:g}" height="{:.2f}"/>')
    iso = f"{datetime.fromtimestamp(bar.at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return Markup('<g>{}{}<rect class="field" x="{:g}" y="0" width="{:g}" height="{:g}"/>'
                  '<title data-at="{}" data-said="{}">{} UTC: {}</title></g>').format(
        part.format(first, x, HEIGHT - low, width, low) if low else "",
        part.format(second, x, HEIGHT - low - high, width, high) if high else "",
        n * STEP, STEP, HEIGHT, iso, bar.said, iso[:16].replace("T", " "), bar.said,
    )  # fmt: skip
