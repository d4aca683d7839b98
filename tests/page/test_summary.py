"""What the first sentences say: what is stuck, why, until when, what to do, and what it cost."""

from __future__ import annotations

from typing import Any

import pytest
from markupsafe import Markup

from openaibatching.server.dashboard import charts, formatting, timeline
from openaibatching.server.dashboard.summary import Summary, summary
from openaibatching.server.domain.states import TRANSITIONS
from openaibatching.server.telemetry.logs import HINT
from page.sample import NOW, batch, busy, cost, group, stats

LINGER_S = 60.0
DAY_S = 86_400


def told(stats_: dict[str, Any]) -> Summary:
    return summary(stats_, LINGER_S)


def text(*parts: Markup) -> str:
    return " ".join(part.striptags() for part in parts)


def test_a_service_that_nobody_has_called_says_so() -> None:
    said = told(stats())
    assert (said.level, said.title) == ("good", "Nothing is stuck")
    assert text(*said.sentences) == (
        "It is 14:00 UTC. No request has come yet. Today $0 paid, $0 saved."
    )


def test_a_good_day_is_told_in_four_sentences() -> None:
    said = told(busy(answers_by_hour=[]))
    assert (said.level, said.troubles) == ("good", [])
    assert text(*said.sentences) == (
        "It is 14:00 UTC. 1,204 requests wait, the oldest for 40 s: its batch is sent at 14:00 UTC."
        " 2 batches with 6,800 requests are at OpenAI; the next is expected back at 14:30 UTC,"
        " the last at 15:56 UTC. Today $3.20 paid, $3.20 saved."
    )


def test_without_a_forecast_the_promise_of_openai_is_told() -> None:
    said = told(busy(queue=[], batches=[batch(estimated_completion_at=None)]))
    assert "OpenAI promises an answer by 23 Nov 13:00 UTC." in text(*said.sentences)


def test_failures_of_the_last_day_and_lost_money_are_told() -> None:
    hour = {"hour": NOW - 3600, "answers": 90, "failed": 10}
    old = {"hour": NOW - 30 * 3600, "answers": 0, "failed": 1000}
    costs = {"today": cost(5, 4, lost=1.0, unpriced=2, incomplete=1), "last_30_days": cost(5, 4)}
    said = text(*told(busy(answers_by_hour=[old, hour], costs=costs)).sentences)
    assert "10 of 100 requests failed." in said
    assert "$1.00 of it for answers that never came; 2 answers without a known price" in said
    assert "1 answer with an incomplete receipt" in said


@pytest.mark.parametrize("number", [1, 2])
def test_a_stuck_batch_is_the_headline_with_why_until_when_and_what_to_do(number: int) -> None:
    stuck = [
        batch(id=f"b{n}", stuck=True, submitted_at=NOW - 26 * 3600, reason="OpenAI sleeps.",
              estimated_completion_at=None)
        for n in range(number)
    ]  # fmt: skip
    said = told(busy(batches=[*stuck, batch()], stuck=stuck))
    title = "One thing is stuck" if number == 1 else "2 things are stuck"
    assert (said.level, said.title, len(said.troubles)) == ("bad", title, number)
    trouble = said.troubles[0]
    assert text(trouble.what) == (
        "A batch of 3,400 requests for gpt-4o-mini has stood still since 21 Nov 12:00 UTC."
    )
    assert "/batches/b0" in trouble.what
    assert trouble.why == "OpenAI sleeps."
    assert text(trouble.until) == "It is looked at again at 14:00 UTC."
    assert "batch_68a1" in trouble.do
    assert "1 batch with 3,400 requests is at OpenAI" in text(*said.sentences), (
        "the others are well"
    )


def test_a_batch_that_cannot_be_sent_is_told_long_before_it_counts_as_stuck() -> None:
    why = "The last try failed, because OpenAI answered 401."
    bad = batch(status="claimed", submitted_at=None, next_look_at=NOW + 240, reason=why,
                trouble_since=NOW - 600)  # fmt: skip
    said = told(busy(batches=[bad]))
    assert (said.level, said.title) == ("warn", "Nothing is stuck, but one thing has to wait")
    assert text(said.troubles[0].what).endswith("gpt-4o-mini cannot be sent since 13:50 UTC.")
    assert said.troubles[0].why == why
    assert text(said.troubles[0].until) == "It is looked at again at 14:04 UTC."
    assert told(busy(batches=[{**bad, "trouble_since": NOW - 5}])).level == "good", "everyday"


def test_a_key_that_openai_refuses_is_stuck_because_it_does_not_mend_itself() -> None:
    why = f"The last try failed, because OpenAI answered 401 ({HINT}); it is repeated."
    bad = batch(status="claimed", submitted_at=None, reason=why, trouble_since=NOW - 600)
    said = told(busy(batches=[bad, batch()]))
    assert (said.level, said.title) == ("bad", "One thing is stuck")
    assert "OPENAI_API_KEY" in said.troubles[0].do
    assert "on the way there" not in text(*said.sentences), "it is not"


def test_a_batch_at_openai_that_cannot_be_looked_at_is_told() -> None:
    said = told(busy(batches=[batch(trouble_since=NOW - 600)]))
    assert "cannot be looked after since 13:50 UTC" in text(said.troubles[0].what)


@pytest.mark.parametrize("reason", ["held", "token_limit", "creations_full"])
def test_requests_that_have_to_wait_are_told_with_their_end(reason: str) -> None:
    held = group(reason=reason, detail="Because.", until=NOW + 600, requests_capped=True)
    said = told(busy(queue=[group(), held]))
    assert said.level == "warn"
    assert text(said.troubles[0].what).startswith("At least 1,204 requests for gpt-4o-mini ")
    assert said.troubles[0].why == "Because."
    assert text(said.troubles[0].until) == "It goes on at 14:10 UTC."
    endless = told(busy(queue=[{**held, "until": None}]))
    assert "when OpenAI has finished" in text(endless.troubles[0].until)


def test_a_queue_that_nobody_sends_is_stuck() -> None:
    due = group(reason="due", until=None, oldest_queued_at=NOW - 70)
    said = told(busy(queue=[due]))
    assert said.level == "good"
    assert "its batch is being made" in text(*said.sentences)
    said = told(busy(queue=[{**due, "oldest_queued_at": NOW - 4000}]))
    assert said.level == "bad"
    assert "should have been sent at 12:54 UTC" in text(said.troubles[0].what)


def test_a_budget_that_is_used_up_is_told_with_when_it_is_not() -> None:
    budget = {"usd_day": 10.0, "spent": 7.5, "reserved": 2.5}
    said = told(busy(budget=budget))
    assert "The day's budget of $10.00 is used up" in text(said.troubles[0].what)
    assert text(said.troubles[0].until) == "The next day begins at 23 Nov 00:00 UTC."
    assert told(busy(budget={**budget, "reserved": 2.4})).level == "good"
    spent = told(busy(budget={**budget, "spent": 10.0}))
    assert "refused and nothing more is sent." in text(spent.troubles[0].what)


def test_what_a_caller_wrote_stays_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    bad = batch(stuck=True, model=evil, batch_id=evil)
    said = told(busy(batches=[bad], stuck=[bad], queue=[group(reason="held", model=evil)]))
    for trouble in said.troubles:
        for part in (trouble.what, trouble.until, trouble.do):
            assert "<img" not in part


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (0, "$0"), (0.0000421, "$0.000042"), (0.0042, "$0.0042"), (0.28, "$0.28"), (0.5, "$0.50"),
        (0.999, "$1.00"), (3.2, "$3.20"), (999.994, "$999.99"), (12_345.6, "$12,346"),
        (-0.5, "-$0.50"), (1e-12, "$0.000000000"),
    ],
)  # fmt: skip
def test_money_has_as_many_digits_as_tell_something(usd: float, said: str) -> None:
    assert formatting.money(usd) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"),
     (7500, "2 h 5 min"), (3 * DAY_S, "3 days"), (-5, "0 s")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, said: str) -> None:
    assert formatting.duration(seconds) == said


def test_a_chart_has_a_bar_for_each_hour_and_says_what_it_is() -> None:
    chart = charts.answers([{"hour": NOW - 3600, "answers": 30, "failed": 10}], NOW)
    assert len(chart.bars) == charts.HOURS
    assert (chart.top, chart.empty) == ("40", False)
    assert "30 answered, 10 failed" in chart.svg
    assert "style=" not in chart.svg, "the page's policy forbids it"
    assert 'height="75.00"' in chart.svg
    assert 'height="25.00"' in chart.svg
    assert charts.answers([], NOW).empty


def test_a_chart_of_money_has_a_bar_for_each_day() -> None:
    chart = charts.savings([{"day": "2026-11-22", "paid": 2.0, "saved": 6.0}], NOW)
    assert len(chart.bars) == charts.DAYS
    assert (chart.top, chart.bars[-1].said) == ("$8.00", "$2.00 paid, $6.00 saved")


def test_every_transition_has_its_words() -> None:
    assert set(timeline.STEPS) == TRANSITIONS


@pytest.mark.parametrize("answer", [None, b"", b"[1]", b'{"error":3}', b"\xff", b"[" * 100_000])
def test_an_error_that_nobody_can_read_says_nothing(answer: bytes | None) -> None:
    assert timeline.error(answer) == ""


def test_json_is_shown_with_its_numbers_as_they_were_written() -> None:
    body = b'{"a":1.00,"b":12345678901234567890123,"c":"\xc3\xa9"}'
    shown = timeline.text(body, len(body))
    assert shown.splitlines()[1:3] == ['  "a": 1.00,', '  "b": 12345678901234567890123,']
    assert timeline.text(body[:8], len(body)) == '{"a":1.0'
    assert timeline.text(b"\xff", 1) == "\N{REPLACEMENT CHARACTER}"


def test_others_who_may_use_the_account_are_told() -> None:
    limit = {"told": 90_000, "kept": 22_500, "others": True}
    said = told(busy(queue=[group(reason="token_limit", detail="Others.", token_limit=limit)]))
    assert said.troubles[0].why == "Others."
    assert "more is sent with each batch" in text(said.troubles[0].do)
