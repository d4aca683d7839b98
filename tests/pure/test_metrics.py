"""The metrics page, from what the database says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families

from openaibatching.server.billing.spending import SpendingSum
from openaibatching.server.reporting.metrics import MODELS_MAX, OTHER, Look, render

START = datetime(2026, 1, 1, tzinfo=UTC)


def spent(model: str, hours: int, answers: int = 1) -> SpendingSum:
    first = START + timedelta(hours=hours)
    usd = Decimal(1)
    return SpendingSum(
        False, first, "/v1/responses", model, first, answers, 2, 3, 1, 0, 1, 0, usd, usd, usd
    )


def answers(spending: list[SpendingSum]) -> dict[str, float]:
    """{model: answers} of the page."""
    text = render(Look(spending=spending), "1").decode()
    [family] = [
        f for f in text_string_to_metric_families(text) if f.name == "openaibatching_answers"
    ]
    return {s.labels["model"]: s.value for s in family.samples}


def test_models_beyond_the_bound_are_one_and_nothing_is_left_out() -> None:
    many = [spent(f"m{n}", n) for n in range(MODELS_MAX + 20)]
    told = answers(many)
    assert len(told) == MODELS_MAX + 1
    assert told[OTHER] == 20
    assert sum(told.values()) == len(many)


def test_a_model_that_comes_later_takes_no_name_away_however_frequent_it_is() -> None:
    many = [spent(f"m{n}", n) for n in range(MODELS_MAX)]
    before = answers(many)
    after = answers([spent("a-new-one", MODELS_MAX, answers=10**6), *many])
    assert OTHER not in before
    assert {model: n for model, n in after.items() if model != OTHER} == before
    assert after[OTHER] == 10**6


def test_a_service_that_has_answered_nothing_has_a_page_too() -> None:
    text = render(Look(), "1").decode()
    assert "# TYPE openaibatching_answers_total counter" in text
    assert 'openaibatching_requests{status="queued"} 0.0' in text


def test_answers_without_a_price_and_incomplete_receipts_are_counted() -> None:
    text = render(Look(spending=[spent("m", 0), spent("m", 1)]), "1").decode()
    assert 'openaibatching_cost_gaps_total{kind="unpriced",model="m"} 4.0' in text
    assert 'openaibatching_cost_gaps_total{kind="incomplete",model="m"} 6.0' in text
