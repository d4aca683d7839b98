"""Prometheus text: what the database says of all servers, and what this process has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from openaibatching.server.billing.spending import Budgeted, FailureSum, SpendingSum
from openaibatching.server.config.settings import UPSTREAM_CREATES_PER_HOUR
from openaibatching.server.domain.states import BATCH_STATES, REQUEST_STATES
from openaibatching.server.pipeline.store import Stuck
from openaibatching.server.telemetry import counters

CONTENT_TYPE = CONTENT_TYPE_LATEST
MODELS_MAX = 100
"""So many models are told by name; callers choose the names, and each is a time series."""
OTHER = "other"
EVERYBODY = "*"
"""The label of the budget that all tenants share: no tenant can have this name."""

_TALLIES = (
    ("request", "openaibatching_requests", "Requests by status.", REQUEST_STATES),
    ("batch", "openaibatching_batches", "Batches by status.", BATCH_STATES),
)


@dataclass(frozen=True, slots=True)
class Account:
    """What the database says of the account at OpenAI, which all tenants share. `token_limits` are
    by model."""

    creates_last_hour: int = 0
    token_limits: Sequence[tuple[str, int | None, int | None]] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What the database says now; cheap to ask, however many rows are stored.

    `tally` counts by ("request" or "batch", state); `budgets` are by tenant, "" for the one of all.
    `account` is None on the page of one tenant, which also has nothing of what the server counts.
    """

    tally: Mapping[tuple[str, str], int] = field(default_factory=dict)
    oldest_queued_s: float = 0.0
    stuck: Sequence[Stuck] = ()
    spending: Sequence[SpendingSum] = ()
    failures: Sequence[FailureSum] = ()
    budgets: Mapping[str, Budgeted] = field(default_factory=dict)
    account: Account | None = None


class _Look(Collector):
    def __init__(self, look: Look, version: str) -> None:
        self._look, self._version = look, version

    def collect(self) -> Iterable[Metric]:
        yield from _now(self._look)
        if self._look.account is not None:
            yield from _of_account(self._look.account)
        yield from _ever(self._look)
        yield from _budgets(self._look)
        yield InfoMetricFamily(
            "openaibatching_build", "The running program.", value={"version": self._version}
        )


def _now(look: Look) -> Iterable[Metric]:
    for what, name, text, states in _TALLIES:
        yield _labelled(name, text, "status", {s: look.tally.get((what, s), 0) for s in states})
    yield GaugeMetricFamily(
        "openaibatching_queue_oldest_seconds",
        "For how long the oldest queued request has waited.",
        value=look.oldest_queued_s,
    )
    stuck = Counter(batch.state for batch in look.stuck)
    yield _labelled(
        "openaibatching_stuck_batches",
        "Batches that have stood in one status for longer than anything explains.",
        "status",
        {state: stuck[state] for state in BATCH_STATES if state != "closed"},
    )


def _of_account(account: Account) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "openaibatching_creations_last_hour",
        f"Batches created in the last hour; OpenAI takes {UPSTREAM_CREATES_PER_HOUR}.",
        value=account.creates_last_hour,
    )
    yield _labelled(
        "openaibatching_token_limit",
        "The enqueued-token limit that OpenAI told, by model.",
        "model",
        {model: told for model, told, _ in account.token_limits if told is not None},
    )
    yield _labelled(
        "openaibatching_token_limit_guess",
        "What is kept for now because OpenAI refuses batches below its own limit, by model.",
        "model",
        {model: guess for model, _, guess in account.token_limits if guess is not None},
    )


def _ever(look: Look) -> Iterable[Metric]:
    names = _names(look.spending)
    answers = Counter[tuple[str, str]]()
    tokens, gaps = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    usd: dict[tuple[str, str], Decimal] = {}
    for its in look.spending:
        model = names.get(its.model, OTHER)
        answers[its.endpoint, model] += its.answers
        gaps[model, "unpriced"] += its.unpriced
        gaps[model, "incomplete"] += its.incomplete
        tokens[model, "input"] += its.input_tokens
        tokens[model, "cached"] += its.cached_tokens
        tokens[model, "output"] += its.output_tokens
        tokens[model, "reasoning"] += its.reasoning_tokens
        for kind, price in (("paid", its.paid), ("realtime", its.realtime), ("lost", its.lost)):
            usd[model, kind] = usd.get((model, kind), Decimal()) + price
    yield _counter(
        "openaibatching_answers", "Answers that were stored.", ("endpoint", "model"), answers
    )
    yield _counter(
        "openaibatching_tokens",
        "Tokens that OpenAI counted; cached are among the input, reasoning among the output.",
        ("model", "type"),
        tokens,
    )
    yield _counter(
        "openaibatching_cost_usd",
        "What answers cost: paid by batch, in real time, and paid for answers that never came.",
        ("model", "kind"),
        usd,
    )
    yield _counter(
        "openaibatching_cost_gaps",
        "Answers without a known price, and answers whose receipt leaves something out.",
        ("model", "kind"),
        gaps,
    )
    yield _counter(
        "openaibatching_failures",
        "Requests that failed for good, by the status that their callers get.",
        ("endpoint", "status"),
        {(its.endpoint, str(its.status_code)): its.n for its in look.failures},
    )


def _names(spending: Sequence[SpendingSum]) -> dict[str, str]:
    """The models that are told by name: those that were there first.

    Not the most frequent ones: those change, and a counter that loses what it counted looks to
    Prometheus like one that began anew.
    """
    ordered = sorted(spending, key=lambda its: (its.first, its.model))
    return {model: model for model in list(dict.fromkeys(i.model for i in ordered))[:MODELS_MAX]}


def _budgets(look: Look) -> Iterable[Metric]:
    texts = (
        ("limit", "What a tenant's day may cost."),
        ("spent", "What a tenant's day has cost, since 00:00 UTC."),
        ("reserved", "What a tenant's unfinished requests may cost by their estimates."),
        ("at_openai", "What a tenant's batches at OpenAI cost at most; +Inf: nobody can say."),
    )
    for what, text in texts:
        values = {
            tenant or EVERYBODY: float(getattr(usd, what)) for tenant, usd in look.budgets.items()
        }
        yield _labelled(f"openaibatching_budget_{what}_usd", text, "tenant", values)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        gauge.add_metric([value], number)
    return gauge


def _counter(
    name: str,
    text: str,
    labels: tuple[str, str],
    values: Mapping[tuple[str, str], int] | Mapping[tuple[str, str], Decimal],
) -> CounterMetricFamily:
    counter = CounterMetricFamily(name, text, labels=labels)
    for pair, number in values.items():
        counter.add_metric(pair, float(number))
    return counter


def render(look: Look, version: str) -> bytes:
    """The metrics page."""
    registry = CollectorRegistry()
    registry.register(_Look(look, version))
    page = generate_latest(registry)
    return page if look.account is None else page + generate_latest(counters.REGISTRY)
