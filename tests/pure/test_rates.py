"""How many calls a second are let in, and when the others are told to come again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.config.settings import Settings
from openaibatching.server.config.tenant_limits import TenantLimit, parse_limit
from openaibatching.server.errors import ConfigError, RateLimited
from openaibatching.server.requests.callers import BYTES_MAX, TENANT_BYTES_MAX, Callers
from openaibatching.server.requests.rates import PAUSE_S_MAX, Rate


def test_so_many_calls_pass_at_once_and_then_so_many_a_second() -> None:
    rate = Rate(10, 0.0)
    assert [rate.pause_s(0.0) for _ in range(11)] == [0] * 10 + [1]
    assert [rate.pause_s(0.5) for _ in range(6)] == [0] * 5 + [1]
    assert [rate.pause_s(9.0) for _ in range(11)] == [0] * 10 + [1]


def test_calls_that_are_sent_back_come_again_one_seconds_number_after_the_other() -> None:
    rate = Rate(100, 0.0)
    pauses = [rate.pause_s(0.0) for _ in range(450)]
    assert pauses == [0] * 100 + [1] * 100 + [2] * 100 + [3] * 100 + [4] * 50
    again = sorted(pauses[100:])
    assert [rate.pause_s(float(at)) for at in again] == [0] * 350


@given(st.integers(1, 50), st.lists(st.floats(0, 2), max_size=200))
def test_no_second_has_more_than_twice_the_calls_and_no_pause_is_too_long(
    most: int, gaps: list[float]
) -> None:
    rate, at = Rate(most, 0.0), 0.0
    passed: list[float] = []
    for gap in gaps:
        at += gap / most
        pause = rate.pause_s(at)
        assert 0 <= pause <= PAUSE_S_MAX
        if pause == 0:
            passed.append(at)
    for start in passed:
        assert len([at for at in passed if start <= at < start + 1]) <= 2 * most


def callers(**limits: str) -> Callers:
    settings = Settings(openai_api_key="sk-x", **limits)  # type: ignore[arg-type]
    return Callers(settings, lambda: 0.0)


def test_a_tenant_above_its_rate_is_sent_back_and_no_other_is() -> None:
    door = callers(tenant_rate_max="3,few=1")
    for tenant, most in (("one", 3), ("two", 3), ("few", 1)):
        for _ in range(most):
            door.enter({}, tenant)
        with pytest.raises(RateLimited) as refused:
            door.enter({}, tenant)
        assert refused.value.reply_headers() == {"Retry-After": "1"}


def test_only_calls_that_are_under_way_count_at_a_time() -> None:
    door = callers(tenant_concurrency_max="2")
    first: dict[str, object] = {}
    second: dict[str, object] = {}
    door.enter(first, "one")
    door.enter(first, "one")  # the same call
    door.enter(second, "one")
    with pytest.raises(RateLimited):
        door.enter({}, "one")
    door.enter({}, "two")
    for _ in range(2):
        door.leave(first)
        door.leave({})
    door.enter(first, "one")
    with pytest.raises(RateLimited):
        door.enter({}, "one")


def test_bytes_are_held_until_they_are_stored_and_one_body_always_fits() -> None:
    door, scopes = callers(), [dict[str, object]() for _ in range(4)]
    for scope, tenant in zip(scopes, ("one", "one", "two", "three"), strict=True):
        door.enter(scope, tenant)
    door.hold(scopes[0], TENANT_BYTES_MAX + 1)
    with pytest.raises(RateLimited):
        door.hold(scopes[1], 1)
    door.hold(scopes[0], 1)
    door.hold(scopes[2], BYTES_MAX - TENANT_BYTES_MAX - 2)
    with pytest.raises(RateLimited):
        door.hold(scopes[3], 1)
    for _ in range(2):
        door.let_go(scopes[0])
    door.hold(scopes[1], TENANT_BYTES_MAX)
    door.leave(scopes[1])
    door.leave(scopes[2])
    door.hold(scopes[3], 1)
    door.hold({}, BYTES_MAX)  # of nobody who was let in: bounded elsewhere


def test_a_limit_is_a_number_or_names_with_numbers_or_both() -> None:
    assert parse_limit("X", "") == TenantLimit()
    assert parse_limit("X", "5").of("any") == 5
    both = parse_limit("X", "5, team-a=7 ,b.c=1")
    assert [both.of(tenant) for tenant in ("team-a", "b.c", "other")] == [7, 1, 5]
    assert parse_limit("X", "a=7").of("other") is None


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "a=", "=1", "a=0", "1,2", "a=1,a=2"])
def test_another_limit_is_refused_by_the_name_of_its_setting(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^TENANT_X must be a whole number"):
        parse_limit("TENANT_X", text)
