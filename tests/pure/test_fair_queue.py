"""Turns between tenants in a queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.requests.fair_queue import FairQueue


def test_one_call_does_not_wait_for_a_thousand_of_another_tenant() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for n in range(1000):
        queue.put("many", ("many", n))
    queue.put("few", ("few", 0))
    assert [queue.take() for _ in range(3)] == [("many", 0), ("few", 0), ("many", 1)]


@given(st.lists(st.sampled_from("abc"), max_size=50))
def test_nothing_is_lost_and_each_tenant_keeps_its_order(tenants: list[str]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    put = list(zip(tenants, range(50), strict=False))
    for tenant, n in put:
        queue.put(tenant, (tenant, n))
    taken = []
    while queue:
        taken.append(queue.take())
    assert sorted(taken) == sorted(put)
    for tenant in "abc":
        assert [each for each in taken if each[0] == tenant] == [
            each for each in put if each[0] == tenant
        ]
    with pytest.raises(IndexError):
        queue.take()
