"""What budgets leave for a batch: no more than that where it is known, else little of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.config.settings import ALL_TENANTS
from openaibatching.server.pipeline import form
from openaibatching.server.pipeline.form import Limits
from openaibatching.server.pipeline.queue import Queued

DUE = timedelta(seconds=60)
USD = st.floats(0.001, 1)


def choose(queue: Sequence[Queued], limits: Limits, waited: timedelta) -> list[int]:
    return [request.seq for request in form.choose(queue, limits, waited)]


def queued(
    seq: int, tenant: str = "a", usd: float | None = 0.1, most: float | None = None
) -> Queued:
    return Queued(seq, 10, 1, 1, tenant, usd, most)


def limits(**left: float) -> Limits:
    names = {ALL_TENANTS if name == "all_" else name: usd for name, usd in left.items()}
    return Limits(50, 10_000, DUE, usd_left=names)


def test_a_batch_costs_no_more_than_what_is_left_where_that_is_known() -> None:
    queue = [queued(n, most=0.3) for n in range(10)]
    assert choose(queue, limits(all_=1), DUE) == [0, 1, 2]
    assert choose(queue, limits(a=1), DUE) == [0, 1, 2]
    assert choose(queue, limits(b=1), DUE) == list(range(10))


def test_one_request_that_may_pass_the_budget_goes_alone() -> None:
    queue = [queued(n, most=5) for n in range(3)]
    assert choose(queue, limits(all_=1), DUE) == [0]


def test_a_batch_without_a_bound_is_small_beside_what_is_left() -> None:
    assert choose([queued(n, usd=0.02) for n in range(50)], limits(all_=1), DUE) == [0, 1, 2, 3, 4]
    before = [queued(n, usd=None) for n in range(50)]
    assert 1 <= len(choose(before, limits(all_=1), DUE)) <= 100


def test_a_tenant_whose_budget_is_full_lets_the_others_pass() -> None:
    queue = [queued(n, "ab"[n % 2], most=0.6) for n in range(6)]
    assert choose(queue, limits(a=1, all_=9), DUE) == [0, 1, 3, 5]


def test_money_that_is_used_up_makes_a_batch_full() -> None:
    queue = [queued(n, most=0.6) for n in range(2)]
    assert choose(queue, limits(all_=1), timedelta()) == [0]
    assert choose(queue, limits(all_=2), timedelta()) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), USD), max_size=40), USD, USD)
def test_no_budget_is_passed_but_by_its_first_request(
    given_: list[tuple[str, float]], a: float, all_: float
) -> None:
    queue = [queued(n, tenant, most=usd) for n, (tenant, usd) in enumerate(given_)]
    chosen = [queue[n] for n in choose(queue, limits(a=a, all_=all_), DUE)]
    for left, of in ((all_, chosen), (a, [r for r in chosen if r.tenant == "a"])):
        assert len(of) <= 1 or sum(r.usd_most or 0 for r in of) <= left + 1e-6
    assert not queue or chosen[0] is queue[0]
