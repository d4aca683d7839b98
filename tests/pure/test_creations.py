"""The creations of an hour: each tenant finds some, whoever came first."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.config.settings import UPSTREAM_CREATES_PER_HOUR
from openaibatching.server.domain.batch import Unanswered
from openaibatching.server.pipeline.creations import IN_HAND_MAX, Creations, Used
from openaibatching.server.providers.openai.refusals import halves


def used_up(*greedy: str) -> dict[str, int]:
    """What each of them gets who takes, one after the other, all that it may have."""
    taken: dict[str, int] = {}
    for tenant in greedy:
        while Creations.of([Used(name, n, 0) for name, n in taken.items()]).may(tenant):
            taken[tenant] = taken.get(tenant, 0) + 1
    return taken


def test_one_tenant_leaves_some_to_whoever_comes_later() -> None:
    taken = used_up("first", "second", "third")
    assert taken == {"first": 1600, "second": 320, "third": 64}
    assert sum(taken.values()) < UPSTREAM_CREATES_PER_HOUR


def test_tenants_that_want_them_at_once_get_the_same() -> None:
    taken: Counter[str] = Counter()
    busy = True
    while busy:
        busy = False
        for tenant in ("one", "two"):
            if Creations.of([Used(t, n, 0) for t, n in taken.items()]).may(tenant):
                taken[tenant] += 1
                busy = True
    assert taken["one"] == taken["two"] == 889


def test_half_of_them_may_go_without_waiting_for_company_and_few_are_in_hand() -> None:
    rows = [Used("much", 900, 0), Used("busy", 16, IN_HAND_MAX), Used("few", 1, 1)]
    creations = Creations.of([*rows, Used(None, 800, 0)])
    assert creations.total == 1717
    assert creations.waiting == ["busy"]
    assert creations.unhurried == ["much"]
    assert creations.may("much")
    assert not creations.may("much", 0.5)
    assert Creations().may("anybody")


@given(st.lists(st.sampled_from("aabc"), min_size=2, max_size=40))
def test_the_halves_of_a_batch_share_no_tenant_but_the_only_one(tenants: list[str]) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    owed = [
        Unanswered(n, UUID(int=n), 1, None, 10, 1, at, tenant) for n, tenant in enumerate(tenants)
    ]
    first, second = halves(owed)
    assert sorted([*first, *second], key=lambda r: r.seq) == owed
    assert first
    assert second
    if len(set(tenants)) > 1:
        assert {r.tenant for r in first} & {r.tenant for r in second} == set()
    else:
        assert abs(len(first) - len(second)) <= 1
