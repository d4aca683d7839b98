"""When an answer is expected: from what batches like it took, and never from nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from openaibatching.server.reporting.forecast import PAST_MIN, Forecast, Past, UnderWay

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def past(took: timedelta, requests: int = 100, ago: timedelta = 24 * HOUR) -> Past:
    sent = NOW - ago
    return Past("m", requests, sent, sent + took, sent - MINUTE)


def forecast(*batches: Past, elapsed: timedelta = timedelta(0), requests: int = 100) -> Forecast:
    running = UnderWay("batch_1", "m", requests, NOW - elapsed)
    return Forecast({"m": list(batches)}, {"batch_1": running}, (), 10 * MINUTE)


def test_a_batch_takes_what_the_last_ones_took() -> None:
    known = forecast(past(HOUR), past(2 * HOUR), past(9 * HOUR))
    assert known.of_batch("batch_1", NOW) == NOW + 2 * HOUR


def test_one_of_like_size_counts_for_more() -> None:
    small, large = [past(MINUTE, 10)] * 3, [past(5 * HOUR, 40_000)] * 3
    assert forecast(*small, *large, requests=12).of_batch("batch_1", NOW) == NOW + MINUTE
    assert forecast(*small, *large, requests=30_000).of_batch("batch_1", NOW) == NOW + 5 * HOUR


def test_one_of_a_like_hour_counts_for_more() -> None:
    noon, night = [past(HOUR, ago=24 * HOUR)] * 3, [past(6 * HOUR, ago=12 * HOUR)] * 3
    assert forecast(*night, *noon).of_batch("batch_1", NOW) == NOW + HOUR


def test_the_last_ones_count_for_more() -> None:
    assert forecast(*[past(HOUR)] * 60, *[past(4 * HOUR)] * 100).of_batch("batch_1", NOW) == (
        NOW + HOUR
    )


def test_what_took_less_than_has_passed_no_longer_counts() -> None:
    known = forecast(past(HOUR), past(2 * HOUR), past(9 * HOUR), elapsed=3 * HOUR)
    assert known.of_batch("batch_1", NOW) == NOW + 6 * HOUR


@pytest.mark.parametrize("batches", range(PAST_MIN))
def test_without_a_history_there_is_no_guess(batches: int) -> None:
    known = forecast(*[past(HOUR)] * batches)
    assert known.of_batch("batch_1", NOW) is None
    assert known.of_queue("m", NOW, NOW) is None


def test_a_batch_that_takes_longer_than_any_has_no_guess() -> None:
    known = forecast(*[past(HOUR)] * 5, elapsed=2 * HOUR)
    assert known.of_batch("batch_1", NOW) is None


def test_nothing_is_known_of_other_batches_and_models() -> None:
    known = forecast(*[past(HOUR)] * 5)
    assert known.of_batch("batch_2", NOW) is None
    assert known.of_queue("other", NOW, NOW) is None


def test_what_is_queued_waits_for_company_first() -> None:
    known = forecast(*[past(HOUR)] * 5)
    assert known.of_queue("m", NOW - 4 * MINUTE, NOW) == NOW + 6 * MINUTE + HOUR + MINUTE
    assert known.of_queue("m", NOW - HOUR, NOW) == NOW + HOUR + MINUTE


def test_of_a_model_that_is_held_nobody_can_tell() -> None:
    known = forecast(*[past(HOUR)] * 5)
    known.held = {"m"}
    assert known.of_queue("m", NOW, NOW) is None
    assert known.of_batch("batch_1", NOW) == NOW + HOUR


def test_an_expectation_that_has_passed_is_none() -> None:
    known = forecast(*[past(HOUR)] * 5)
    assert known.of_batch("batch_1", NOW) == NOW + HOUR
    assert known.of_batch("batch_1", NOW + 2 * HOUR) is None
