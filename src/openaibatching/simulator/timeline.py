"""When a batch will do what: fixed at its creation, so that nothing depends on who looks."""

import math
from dataclasses import dataclass

from openaibatching.simulator.faults import Dice

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
    overdue_s: float = 0.0
    cancel_at: float = math.inf
    cancel_early: bool = False
    """It is cancelled before it is validated."""
    lines_share: float = 1.0
    """The share of its lines that a batch gets done at all."""
    expires_early: bool = False
    file_ids_late_s: float = 0.0
    """For so long after the batch has ended, it shows no file ids."""


def plan(
    now: float, number: int, lag: float, window_s: float, cancel_s: float, dice: Dice
) -> Timeline:
    """The timeline of the batch with this number, and of what strikes it. Times in seconds."""
    faults = dice.faults
    times = Timeline(
        validated=now + lag * VALIDATED_SHARE,
        executed=now + lag * EXECUTED_SHARE,
        finished=now + lag,
        expires=now + window_s,
        cancelling_s=cancel_s,
    )
    if dice.hits("expires_late", number):
        times.overdue_s = faults.expires_late_s
    if dice.hits("stuck_cancelling", number):
        times.cancelling_s += faults.stuck_cancelling_s
    if dice.hits("late_file_ids", number):
        times.file_ids_late_s = faults.late_file_ids_s
    if dice.hits("stuck", number):
        # "0 of 15 for more than an hour": nothing at all gets done.
        times.executed, times.finished, times.lines_share = math.inf, math.inf, 0.0
        return times
    if dice.hits("expire", number):
        times.expires, times.expires_early, times.lines_share = times.executed, True, 0.5
    elif dice.hits("cancel_from_outside", number):
        times.cancel_at, times.lines_share = (times.validated + times.executed) / 2, 0.5
    if dice.hits("cancel_before_start", number):
        times.cancel_at, times.cancel_early = (now + times.validated) / 2, True
    if dice.hits("stuck_finalizing", number):
        times.finished += faults.stuck_finalizing_s
    return times
