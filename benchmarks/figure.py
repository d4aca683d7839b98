"""What a figure is: rows of one table, and the sizes that it is measured with."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table. `aim` is None for what is only told, and `reached` for a size that
    is no ratio has its unit in `figure`."""

    figure: str
    against: str
    reached: float
    aim: float | None
    at_least: bool = True
    """Whether the aim is the least that is wanted; else it is the most."""
    detail: str = ""

    @property
    def holds(self) -> bool | None:
        if self.aim is None:
            return None
        return self.reached >= self.aim if self.at_least else self.reached <= self.aim

    def markdown(self) -> str:
        sign = "≥" if self.at_least else "≤"
        aim = "-" if self.aim is None else f"{sign} {self.aim:g}"
        verdict = {True: "yes", False: "**no**", None: ""}[self.holds]
        reached = f"{self.reached:.2f}" if self.reached < 100 else f"{self.reached:,.0f}"
        cells = (self.figure, self.against, reached, aim, verdict, self.detail)
        return f"| {' | '.join(cells)} |"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


HEADER = "| figure | against | reached | aim | holds | measured |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Sizes:
    """How much is measured. A short run is for the results, not for the times."""

    short: bool = False
    rows: int = 10_000_000
    """How many finished requests `growth` stores."""
    rounds: int = field(init=False)
    seconds: float = field(init=False)
    calls: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds", 1 if self.short else 7)
        object.__setattr__(self, "seconds", 0.5 if self.short else 2.0)
        object.__setattr__(self, "calls", 200 if self.short else 50_000)


Measure = Callable[[Sizes], list[Row]]


def median_of_ratios(ours: Sequence[float], others: Sequence[float]) -> float:
    """Sides that took turns are compared turn by turn: what slowed the machine met both."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def check(condition: object, what: str) -> None:
    """A benchmark of wrong results says nothing. Not `assert`: it must hold with -O as well."""
    if not condition:
        raise SystemExit(f"wrong result: {what}")
