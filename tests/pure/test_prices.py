"""What an answer cost is what the price list says, in real time and by batch."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.billing.prices import BATCH, PRICES_S, PriceList, flat
from openaibatching.server.domain import usage
from openaibatching.server.domain.request import Receipt
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.domain.usage import Usage

PRICES = PriceList()
CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("usages.json").read_text())
FLAVORS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/images/generations": "images",
    "/v1/images/edits": "images",
    "/v1/embeddings": "embeddings",
}
WITHOUT_BATCH_PRICE = {"gpt-audio-1.5", "gpt-audio-mini", "text-embedding-3-small"}
MODELS = ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-5-nano", "o3", "gpt-6-luna", "gpt-5.4")
COUNTS = st.integers(0, 200_000)
MTOK = Decimal(1_000_000)


def receipt(model: str, reported: dict[str, Any]) -> Receipt | None:
    return PRICES.receipt(usage.read(json.dumps(reported).encode()), model)


def listed(model: str, used: Usage, context: dict[str, str] | None = None) -> Decimal:
    """The price as the list itself computes it."""
    counts = genai_prices.Usage(
        input_tokens=used.tokens.input,
        cache_read_tokens=used.tokens.cached,
        cache_write_tokens=used.written,
        output_tokens=used.tokens.output,
    )
    return genai_prices.calc_price(
        counts, model, provider_id="openai", price_context=context
    ).total_price


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["model"])
def test_receipts_equal_the_list(case: dict[str, Any]) -> None:
    read = genai_prices.data_snapshot.get_snapshot().extract_usage(
        case, "openai", api_flavor=FLAVORS[case["endpoint"]]
    )
    realtime = read.calc_price().total_price
    batch = read.calc_price(price_context=BATCH).total_price
    assert (batch == realtime) == (case["model"] in WITHOUT_BATCH_PRICE)
    paid = realtime / 2 if batch == realtime else batch
    assert receipt(case["model"], case["usage"]) == Receipt(realtime, paid, incomplete=False)


@given(st.sampled_from(MODELS), COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_price_is_the_lists_own(
    model: str, fresh: int, cached: int, written: int, output: int
) -> None:
    written = written if model == "gpt-6-luna" else 0
    used = Usage(Tokens(fresh + cached + written, cached, output), written)
    found = PRICES.receipt(used, model)
    assert found is not None
    assert found.realtime == listed(model, used)


def test_every_model_of_the_list_is_priced_as_the_list_does_it() -> None:
    used = Usage(Tokens(300_000, 0, 2000))
    compared = halved = 0
    for model in get_snapshot().find_provider(None, "openai", None).models:
        try:
            realtime, batch = listed(model.id, used), listed(model.id, used, BATCH)
        except (LookupError, ValueError):
            continue
        found = PRICES.receipt(used, model.id)
        if model.id == "gpt-3.5-turbo-1106":  # its batch sheet is there, and has no price in it
            assert found is None
            continue
        assert found is not None, model.id
        assert found.realtime == realtime, model.id
        assert found.paid == (batch if batch != realtime else realtime / 2), model.id
        compared += 1
        halved += batch == realtime
    assert compared - halved > 35
    assert halved > 20


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1", "gpt-4.1-mini", "o1", "o3", "o4-mini"])
def test_cached_input_without_a_row_in_the_batch_sheet_costs_as_other_input(model: str) -> None:
    cached = PRICES.receipt(Usage(Tokens(10_000, 10_000)), model)
    fresh = PRICES.receipt(Usage(Tokens(10_000)), model)
    assert cached is not None
    assert fresh is not None
    assert cached.paid == fresh.paid
    assert cached.realtime < fresh.realtime


def test_a_write_that_is_kept_for_12_hours_costs_twice_as_much_as_a_short_one() -> None:
    def paid(**details: Any) -> Decimal:
        reported = {
            "input_tokens": 4000,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 4000, **details},
            "output_tokens": 0,
        }
        found = receipt("gpt-6-luna", reported)
        assert found is not None
        assert not found.incomplete
        return found.paid

    plain = Decimal("0.05") * 4000 / MTOK  # $0.05 a million, by batch
    short = {"ttl_30m_tokens": 4000, "ttl_12h_tokens": 0}
    mixed = {"ttl_30m_tokens": 3000, "ttl_12h_tokens": 1000}
    assert paid() == paid(cache_write_tokens_details=short) == plain * Decimal("1.25")
    assert paid(cache_write_tokens_details=mixed) == plain * (
        Decimal("1.25") * 3 / 4 + Decimal("2.5") / 4
    )


@pytest.mark.parametrize(
    "model", ["my-own-model", "gpt-6.2-sol", "ft:gpt-4.1:acme::1", "dall-e-3", ""]
)
def test_a_model_that_is_not_in_the_list_has_no_price(model: str) -> None:
    assert PRICES.of(model) is None
    assert PRICES.receipt(Usage(Tokens(1, 0, 1)), model) is None


@pytest.mark.parametrize(
    ("snapshot", "model"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-5.6-sol-2026-12-31", "gpt-5.6-sol"),
        ("GPT-4o-mini-2024-07-18", "gpt-4o-mini"),
    ],
)
def test_a_snapshot_has_the_price_of_its_model(snapshot: str, model: str) -> None:
    used = Usage(Tokens(100, 0, 20))
    found = PRICES.receipt(used, snapshot)
    assert found is not None
    assert found == PRICES.receipt(used, model)


def test_an_answer_that_names_a_model_without_a_price_has_that_of_the_model_asked_for() -> None:
    used = Usage(Tokens(100, 0, 20))
    assert PRICES.receipt(used, "unheard-of", "gpt-4o") == PRICES.receipt(used, "gpt-4o")


@pytest.mark.parametrize(
    ("model", "expected"),
    [("omni-moderation-latest", Receipt(Decimal(0), Decimal(0))), ("gpt-4o", None)],
)
def test_without_tokens_only_what_is_free_has_a_price(model: str, expected: Receipt | None) -> None:
    assert PRICES.receipt(None, model) == expected


@pytest.mark.parametrize(
    ("model", "used"),
    [
        ("gpt-4o-audio-preview", Usage(Tokens(10, 0, 10), other={"output_audio_tokens": 5})),
        ("gpt-4o", Usage(Tokens(10, 0, 10), other={"input_audio_tokens": 5})),
        ("gpt-5.4", Usage(Tokens(2000, 0, 10), written=2000)),
        ("gpt-4.1-nano", Usage(Tokens(10, 0, 10), other={"web_searches": 1})),
        ("gpt-4o-search-preview", Usage(Tokens(10, 0, 10))),
        ("gpt-6-luna", Usage(Tokens(10, 0, 10), incomplete=True)),
    ],
)
def test_what_the_list_has_no_price_for_makes_a_receipt_incomplete(model: str, used: Usage) -> None:
    found = PRICES.receipt(used, model)
    assert found is not None
    assert found.incomplete


def test_fees_of_tools_are_charged_in_full() -> None:
    plain = PRICES.receipt(Usage(Tokens(100, 0, 10)), "gpt-6-luna")
    other = {"web_searches": 2, "storage_searches": 1}
    found = PRICES.receipt(Usage(Tokens(100, 0, 10), other=other), "gpt-6-luna")
    assert plain is not None
    assert found is not None
    assert not found.incomplete
    fees = Decimal("0.0225")  # $10 and $2.50 a thousand
    assert (found.realtime - plain.realtime, found.paid - plain.paid) == (fees, fees)


@pytest.mark.parametrize(
    ("model", "used"),
    [
        # Cached tokens of which nobody says whether they are text or images.
        ("gpt-image-1", Usage(Tokens(10, 5, 10), other={"input_image_tokens": 5})),
        # More read from the cache and written to it than was read at all.
        ("gpt-6-luna", Usage(Tokens(10, 6, 1), written=6)),
        ("gpt-audio", Usage(Tokens(1, 0, 1), other={"input_audio_tokens": 2})),
    ],
)
def test_usage_that_cannot_be_priced_has_no_receipt(model: str, used: Usage) -> None:
    assert PRICES.receipt(used, model) is None


def test_cached_images_are_priced_where_their_part_is_told() -> None:
    other = {"input_image_tokens": 100, "cache_image_read_tokens": 40}
    found = PRICES.receipt(Usage(Tokens(150, 50, 0), other=other), "gpt-image-1")
    batch = 60 * Decimal(5) + 40 * Decimal("1.25") + 40 * Decimal("2.5") + 10 * Decimal("0.63")
    assert found is not None
    assert found.paid == batch / MTOK


def test_lost_tokens_cost_what_short_calls_do_however_many_they_are() -> None:
    found = PRICES.lost_usd("gpt-6-luna", Tokens(10**6, 0, 10**6))
    assert found == Decimal("0.05") + Decimal("0.25")
    assert PRICES.lost_usd("my-own-model", Tokens(1)) is None


def test_a_price_that_changes_is_noticed_within_the_hour() -> None:
    """gpt-5.6-luna became cheaper; OpenAI's batch sheet is in the list since 2026-10-14."""
    now = datetime(2026, 10, 13, 23, 30, tzinfo=UTC).timestamp()
    prices = PriceList(lambda: now)
    used = Usage(Tokens(0, 0, 1000))
    before = prices.receipt(used, "gpt-3.5-turbo-1106")  # no sheet: half
    now += PRICES_S
    assert before is not None
    assert prices.receipt(used, "gpt-3.5-turbo-1106") is None


def test_a_flat_price_is_the_same_for_each_token() -> None:
    assert flat(Decimal(3)).batch.at(10).usd(Tokens(1000, 500, 1000)) == Decimal(6) / 1000
