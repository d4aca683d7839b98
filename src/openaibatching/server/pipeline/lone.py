"""A request that OpenAI refused as the only one for its tokens: whether it can ever fit. Pure.

Others may be using the account's limit, and an estimate proves nothing. So only OpenAI's own
refusals end such a request, while none of our batches of the model was enqueued, and again after
pauses; how many depends on what is known for certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

PAUSE_S_MAX = 4 * 3600.0
PATIENCE = timedelta(hours=1)
"""For so long others go first; then a lone request has its turn as soon as OpenAI has none."""
LIKELY_AFTER, AT_LAST_AFTER = timedelta(hours=1), timedelta(hours=25)
"""Longer than any batch of somebody else can take, which may be 24 hours."""


@dataclass(frozen=True, slots=True)
class Lone:
    """What is known of such a request: refused alone so many times, first at `since`.

    at_least: input tokens that it has for certain (tokens.at_least).
    estimate: input tokens by its bytes; None with images, files or audio.
    """

    refusals: int
    since: datetime
    now: datetime
    at_least: int
    estimate: int | None


def never_fits(lone: Lone, told: int | None) -> bool:
    """Whether OpenAI's last reason is its end. `told`: the limit as OpenAI said it."""
    lasted = lone.now - lone.since
    if lone.refusals >= 2 and told is not None and lone.at_least > told:
        return True
    if lone.refusals < 3:
        return False
    likely = told is not None and lone.estimate is not None and lone.estimate > told
    return lasted > AT_LAST_AFTER or (likely and lasted > LIKELY_AFTER)
