"""When a batch will do what: fixed at its creation, so that nothing depends on who looks."""

import math
from dataclasses import dataclass

from openaibatching.simulator.faults.durations import EXPIRY_NOTICED_S, MISSING_FILE_S, drawn
from openaibatching.simulator.faults.faults import Dice

# How the lag is shared out: a batch validates, then runs, then writes its files.
VALIDATED_SHARE, EXECUTED_SHARE = 0.1, 0.9


@dataclass
class Timeline:
    """When a batch will do what, as clock readings; fixed at creation."""

    validated: float
    executed: float
    finished: float
    expires: float
    """What the batch object says; it ends `overdue_s` later if it is not done by then."""
    cancelling_s: float
    expiring_s: float
    """From the end of its window to `expired`, while it finalizes."""
    overdue_s: float = 0.0
    cancel_at: float = math.inf
    cancel_early: bool = False
    """It is cancelled before it is validated."""
    lines_share: float = 1.0
    """The share of its lines that a batch gets done at all."""
    expires_early: bool = False
    uncounted: bool = False
    """What got done of an expired batch is in no counter."""
    file_ids_late_s: float = 0.0
    """For so long after the batch has ended, it shows no file ids."""


@dataclass(frozen=True)
class Pace:
    """How long batches take, in seconds. `lag` None: as long as recorded ones did."""

    lag: float | None
    window_s: float
    cancel_s: float | None
    """None: a tenth of the lag, or as recorded."""


def plan(now: float, number: int, pace: Pace, dice: Dice, *, missing: bool = False) -> Timeline:
    """The timeline of the batch with this number, and of what strikes it.

    now: unix seconds. missing: its input file is not there.
    """
    faults = dice.faults
    if pace.lag is None:
        times = _recorded(now, number, pace, dice)
        if missing:
            times.validated = now + MISSING_FILE_S
    else:
        tenth = pace.lag / 10
        times = Timeline(
            validated=now + pace.lag * VALIDATED_SHARE,
            executed=now + pace.lag * EXECUTED_SHARE,
            finished=now + pace.lag,
            expires=now + pace.window_s,
            cancelling_s=tenth if pace.cancel_s is None else pace.cancel_s,
            expiring_s=tenth,
        )
    if dice.hits("expires_late", number):
        times.overdue_s += faults.expires_late_s
    if dice.hits("stuck_cancelling", number):
        times.cancelling_s += faults.stuck_cancelling_s
    if dice.hits("late_file_ids", number):
        times.file_ids_late_s = faults.late_file_ids_s
    if dice.hits("stuck", number):
        # "0 of 15 for more than an hour": nothing at all gets done.
        times.executed, times.finished, times.lines_share = math.inf, math.inf, 0.0
        return times
    if dice.hits("expires_done", number):
        times.expires, times.expires_early, times.uncounted = times.executed, True, True
    elif dice.hits("expire", number):
        times.expires, times.expires_early, times.lines_share = times.executed, True, 0.5
    elif dice.hits("cancel_from_outside", number):
        times.cancel_at, times.lines_share = (times.validated + times.executed) / 2, 0.5
    if dice.hits("cancel_before_start", number):
        times.cancel_at, times.cancel_early = (now + times.validated) / 2, True
    if dice.hits("stuck_finalizing", number):
        times.finished += faults.stuck_finalizing_s
    return times


def _recorded(now: float, number: int, pace: Pace, dice: Dice) -> Timeline:
    validated = now + drawn("validating", number, dice)
    executed = validated + drawn("running", number, dice)
    cancelling_s = drawn("cancelling", number, dice)
    return Timeline(
        validated,
        executed,
        finished=executed + drawn("finalizing", number, dice),
        expires=now + pace.window_s,
        cancelling_s=cancelling_s if pace.cancel_s is None else pace.cancel_s,
        expiring_s=drawn("expiring", number, dice),
        overdue_s=EXPIRY_NOTICED_S,
    )
