"""When a request that OpenAI refused alone for its tokens has come to its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from openaibatching.server.pipeline.lone import Lone, never_fits

BEGUN = datetime(2026, 11, 28, tzinfo=UTC)
TOLD = 90_000


def lone(refusals: int, hours: float, at_least: int, estimate: int | None) -> Lone:
    return Lone(refusals, BEGUN, BEGUN + timedelta(hours=hours), at_least, estimate)


@pytest.mark.parametrize(
    ("known", "told", "ends"),
    [
        # More words than the limit has tokens: certain, but OpenAI has to say so again.
        (lone(1, 0, 90_001, 120_000), TOLD, False),
        (lone(2, 0.01, 90_001, 120_000), TOLD, True),
        (lone(2, 0.01, 90_000, 1_000_000), TOLD, False),
        # Text that is estimated above the limit: likely.
        (lone(9, 0.9, 5, 1_000_000), TOLD, False),
        (lone(3, 1.1, 5, 90_001), TOLD, True),
        (lone(2, 1.1, 5, 90_001), TOLD, False),
        (lone(9, 24.9, 5, 90_000), TOLD, False),
        # Images, files and audio, whatever the estimate was; and where OpenAI told no limit.
        (lone(50, 24.9, 5, None), TOLD, False),
        (lone(14, 25.1, 5, None), TOLD, True),
        (lone(14, 24.9, 90_001, 120_000), None, False),
        (lone(14, 25.1, 5, 10), None, True),
        # A server that was away for two days has seen too little.
        (lone(2, 48, 5, None), TOLD, False),
    ],
)
def test_only_openais_own_refusals_end_it(known: Lone, told: int | None, ends: bool) -> None:
    assert never_fits(known, told) is ends
