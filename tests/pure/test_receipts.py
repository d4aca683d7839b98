"""Receipts are added up by tenant, and what brought no answer is charged to the token."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.billing import receipts
from openaibatching.server.domain.batch import Result
from openaibatching.server.domain.request import Receipt
from openaibatching.server.domain.tokens import Tokens

COUNTS = st.integers(0, 200_000)


def test_answers_are_added_up_by_tenant_and_failures_by_reason() -> None:
    ids = [uuid.UUID(int=n) for n in range(6)]
    price, paid = Decimal("0.001"), Decimal("0.0006")
    receipt = Receipt(price, paid)
    open_ = Receipt(price, paid, incomplete=True)
    results = [
        Result(ids[0], "completed", 200, b"{}", None, Tokens(1, 0, 2), receipt),
        Result(ids[1], "completed", 200, b"{}", None, Tokens(10, 5, 20, 3), open_),
        Result(ids[2], "completed", 200, b"{}", None, Tokens(7), None),
        Result(ids[3], "failed", 400, b"{}", code="bad"),
        Result(ids[4], "failed", 400, b"{}", code="bad"),
        Result(ids[5], "queued", None, None),
    ]
    tenants = dict(zip(ids, "ababab", strict=True))
    a, b = receipts.spent(results, tenants, Decimal(4))
    assert (a.tenant, a.answers, a.unpriced, a.tokens) == ("a", 2, 1, Tokens(8, 0, 2))
    assert (a.realtime, a.paid, a.lost) == (price, paid, Decimal(0))
    assert (a.incomplete, b.incomplete) == (0, 1)
    assert (a.assumed, b.assumed) == (Decimal(7 * 4) / 1_000_000, Decimal(0))
    assert (b.tenant, b.answers, b.unpriced, b.tokens) == ("b", 1, 0, Tokens(10, 5, 20, 3))
    failed = {(f.tenant, f.status_code, f.code): (f.n, f.example) for f in
              receipts.failed(results, tenants)}  # fmt: skip
    assert failed == {("a", 400, "bad"): (1, ids[4]), ("b", 400, "bad"): (1, ids[3])}


@given(
    st.lists(st.integers(1, 50_000), min_size=1, max_size=5),
    st.builds(Tokens, COUNTS, COUNTS, COUNTS, COUNTS),
)
def test_what_is_lost_is_charged_to_the_token_whatever_the_shares(
    shares: list[int], tokens: Tokens
) -> None:
    usd = Decimal("0.7")
    by_tenant = [(str(n), share) for n, share in enumerate(shares)]
    charged = receipts.lost(tokens, usd, by_tenant, Decimal(4))
    assert sum((each.tokens for each in charged), Tokens()) == tokens
    assert all(each.answers == 0 and each.paid == each.lost for each in charged)
    assert all(each.assumed == 0 for each in charged)
    assert sum(each.paid for each in charged) == pytest.approx(usd)


def test_what_is_lost_without_a_price_counts_in_budgets_alone() -> None:
    charged = receipts.lost(Tokens(600, 0, 400), None, [("a", 1), ("b", 1)], Decimal(4))
    assert [each.paid for each in charged] == [0, 0]
    assert sum(each.assumed for each in charged) == Decimal("0.004")
