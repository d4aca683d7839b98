"""Times, money and durations as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite

DIGITS = 3
"""So many figures of a small amount are shown."""


def when(seconds: float) -> str:
    """Unix seconds as local time."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def moment(text: str) -> float:
    """Unix seconds of a time that somebody typed: in Unix seconds, or as ISO 8601 has it, which is
    local time without a zone. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
    if not isfinite(seconds):
        raise ValueError(text)
    return seconds


def duration(seconds: float) -> str:
    """As people say it: two figures at most."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def recently(seconds: float, now: float) -> str:
    """A time that is over, without the day if that is today."""
    text = when(seconds)
    day, _, clock = text.partition(" ")
    return clock if when(now).startswith(day) else text[: -len(":00")]


def ahead(seconds: float, now: float) -> str:
    """A time to come, to the minute, and how far it is."""
    left = f" (in {duration(seconds - now)})" if seconds > now else ""
    day, _, clock = when(seconds).rpartition(":")[0].partition(" ")
    return f"{clock}{left}" if when(now).startswith(day) else f"{day} {clock}{left}"


def plain_money(usd: float) -> str:
    """All its digits, and no exponent."""
    return f"{Decimal(str(usd)):f}"


def money(usd: float) -> str:
    """Cents, and of less than a dollar so many more digits that it says something."""
    amount = Decimal(str(usd))
    # `adjusted` is the place of the first digit that is not 0: -1 for tenths, -2 for hundredths.
    places = max(2, DIGITS - 1 - amount.adjusted()) if 0 < abs(amount) < 1 else 2
    return f"${amount:,.{places}f}" if amount >= 0 else f"-${-amount:,.{places}f}"
