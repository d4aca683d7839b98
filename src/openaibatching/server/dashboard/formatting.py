"""Numbers, money and times as people read them. Pure; texts are safe to stand in HTML."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from markupsafe import Markup

DAY_S = 86_400


def number(n: float) -> str:
    """1204 -> 1,204"""
    return f"{n:,.0f}"


def plural(n: int, noun: str) -> str:
    """1 request, 1,204 requests; 1 batch, 2 batches."""
    many = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number(n)} {noun if n == 1 else many}"


def model(name: str | None) -> str:
    """The model's name; None: the call leaves the choice to OpenAI."""
    return name or "the default model"


def money(usd: float) -> str:
    """$0, $0.0042, $3.20, $1,204: enough digits to see that it is not nothing."""
    sign, size = ("-" if usd < 0 else ""), abs(usd)
    if size == 0:
        return "$0"
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size >= 0.995:
        return f"{sign}${size:.2f}"
    digits = min(9, 1 - math.floor(math.log10(size)))
    return f"{sign}${size:.{max(2, digits)}f}"


def duration(seconds: float) -> str:
    """40 s, 12 min, 2 h 5 min, 3 days: two units at most."""
    s = max(0, round(seconds))
    if s < 120:
        return f"{s} s"
    minutes = s // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24} days"


def clock(at: float | None, now: float) -> Markup:
    """A moment, in UTC as sent; page.js makes it the reader's own time. None is a dash."""
    if at is None:
        return Markup("&ndash;")
    moment, today = (datetime.fromtimestamp(t, UTC) for t in (at, now))
    day = "" if moment.date() == today.date() else f"{moment.day} {moment:%b} "
    iso = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}{:%H:%M} UTC</time>').format(iso, day, moment)


def exact(at: float) -> Markup:
    """A moment to the second, as `clock` has it to the minute."""
    moment = datetime.fromtimestamp(at, UTC)
    iso = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" data-exact>{} {:%b %H:%M:%S} UTC</time>').format(
        iso, moment.day, moment
    )


def size(n: int) -> str:
    """Bytes, as 812 bytes or 20 kB."""
    return f"{number(n)} bytes" if n < 1000 else f"{number(n / 1000)} kB"


def day(at: float) -> str:
    """A day in UTC, as 25 Nov."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b}"
