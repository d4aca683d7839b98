"""What an answer cost: tokens from its usage, the price from the list, half of it by batch."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server import receipts
from openaibatching.server.model import Result, Tokens

MODELS = ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-5-nano", "o3", "text-embedding-3-small")
COUNTS = st.integers(0, 200_000)


def listed(model: str, tokens: Tokens) -> Decimal:
    """The price as the list itself computes it."""
    usage = genai_prices.Usage(
        input_tokens=tokens.input, cache_read_tokens=tokens.cached, output_tokens=tokens.output
    )
    return genai_prices.calc_price(usage, model, provider_id="openai").total_price


@given(st.sampled_from(MODELS), COUNTS, COUNTS, COUNTS)
def test_a_price_is_the_lists_own(model: str, fresh: int, cached: int, output: int) -> None:
    tokens = Tokens(fresh + cached, cached, output)
    assert receipts.realtime_usd(model, tokens) == listed(model, tokens)


def test_every_model_of_the_list_is_priced_as_the_list_does_it() -> None:
    provider = genai_prices.data_snapshot.get_snapshot().find_provider(None, "openai", None)
    tokens = Tokens(300_000, 1000, 2000)
    compared = 0
    for model in provider.models:
        try:
            price = listed(model.id, tokens)
        except (LookupError, ValueError):
            continue
        assert receipts.realtime_usd(model.id, tokens) == price, model.id
        compared += 1
    assert compared > 50


def test_a_model_that_is_not_in_the_list_has_no_price() -> None:
    assert receipts.realtime_usd("my-own-model", Tokens(1, 0, 1)) is None


@pytest.mark.parametrize(("model", "price"), [("omni-moderation-latest", 0), ("gpt-4o", None)])
def test_without_tokens_only_what_is_free_has_a_price(model: str, price: int | None) -> None:
    assert receipts.realtime_usd(model, None) == price


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Tokens(3, 0, 4)),
        (
            {
                "prompt_tokens": 30,
                "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
                "completion_tokens": 4,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Tokens(30, 20, 4, 2),
        ),
        (
            {
                "input_tokens": 5,
                "input_tokens_details": {"cached_tokens": 1},
                "output_tokens": 6,
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            Tokens(5, 1, 6, 3),
        ),
        ({"prompt_tokens": 9, "total_tokens": 9}, Tokens(9)),
        ({"input_tokens": 9, "input_tokens_details": None, "output_tokens": None}, Tokens(9)),
        (None, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "many"}, None),
        ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}, None),
        ({"prompt_tokens": 10**30}, None),
        ([], None),
    ],
)
def test_usage_is_read_in_every_shape_and_never_believed_blindly(
    usage: Any, tokens: Tokens | None
) -> None:
    assert receipts.read_usage(json.dumps(usage).encode()) == tokens


def test_a_usage_that_is_missing_or_broken_is_none() -> None:
    assert receipts.read_usage(b"") is None
    assert receipts.read_usage(b"{") is None


def test_answers_are_added_up_by_tenant_and_failures_by_reason() -> None:
    ids = [uuid.UUID(int=n) for n in range(6)]
    price = Decimal("0.001")
    results = [
        Result(ids[0], "completed", 200, b"{}", None, Tokens(1, 0, 2), price),
        Result(ids[1], "completed", 200, b"{}", None, Tokens(10, 5, 20, 3), price),
        Result(ids[2], "completed", 200, b"{}", None, Tokens(7), None),
        Result(ids[3], "failed", 400, b"{}", code="bad"),
        Result(ids[4], "failed", 400, b"{}", code="bad"),
        Result(ids[5], "queued", None, None),
    ]
    tenants = dict(zip(ids, "ababab", strict=True))
    a, b = receipts.spent(results, tenants)
    assert (a.tenant, a.answers, a.unpriced, a.tokens) == ("a", 2, 1, Tokens(8, 0, 2))
    assert (a.realtime, a.paid, a.lost) == (price, price / 2, Decimal(0))
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
    charged = receipts.lost("gpt-4o", tokens, [(str(n), share) for n, share in enumerate(shares)])
    assert sum((each.tokens for each in charged), Tokens()) == tokens
    assert all(each.answers == 0 and each.paid == each.lost for each in charged)
    paid = sum(each.paid for each in charged)
    assert paid == pytest.approx(receipts.realtime_usd("gpt-4o", tokens) / 2)  # type: ignore[operator]
