"""The metrics page: what it adds up over all tenants, and what one server has counted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.door import WAIT, Door, all_metrics, open_door
from support.monitoring import OWN_OF_PROMETHEUS, expressions, selectors
from support.postgres import ONE_KIND, Cluster
from support.steps import chat

pytestmark = ONE_KIND

Page = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
async def watched(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """A server whose calls are answered at once, with a budget of all and one of a tenant."""
    folder = tmp_path_factory.mktemp("watched")
    async with open_door(
        cluster, folder, batch_attempts_max=1, batch_budget_usd_day="50,other=2.5"
    ) as door:
        yield door


async def page(door: Door) -> Page:
    return parsed(await all_metrics(door))


def parsed(text: str) -> Page:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(page: Page, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    return sum(
        value
        for (found, its), value in page.items()
        if found == name and labels.items() <= set(its)
    )


async def test_answers_tokens_and_money_of_all_tenants_are_counted_as_their_costs_say(
    watched: Door,
) -> None:
    before = await page(watched)
    for client, text in ((watched.client, "one"), (watched.client, "two"), (watched.other, "one")):
        reply = await client.post("/v1/chat/completions", json=chat(text), headers=WAIT)
        assert reply.json()["has_completed"]
    after = await page(watched)
    answers = "openaibatching_answers_total"
    chats = {"endpoint": "/v1/chat/completions", "model": "gpt-4o"}
    assert total(after, answers, **chats) == total(before, answers, **chats) + 3
    costs = [
        (await client.get("/v1/costs")).json()["total"]
        for client in (watched.client, watched.other)
    ]
    for type_ in ("input", "cached", "output", "reasoning"):
        told = total(after, "openaibatching_tokens_total", type=type_)
        assert told == sum(cost[f"{type_}_tokens"] for cost in costs)
    for kind in ("paid", "realtime", "lost"):
        told = total(after, "openaibatching_cost_usd_total", kind=kind)
        assert told == pytest.approx(sum(cost[kind] for cost in costs))
    assert total(after, "openaibatching_cost_usd_total", kind="paid") > 0


async def test_failures_are_counted_by_the_status_that_callers_get(watched: Door) -> None:
    wrong = chat("[[simulate:status=400]] for the metrics")
    reply = await watched.client.post("/v1/chat/completions", json=wrong, headers=WAIT)
    assert reply.status_code == 400
    failures = await page(watched)
    assert total(failures, "openaibatching_failures_total", status="400") == 1


async def test_a_budget_shows_its_limit_and_what_is_spent_of_it(watched: Door) -> None:
    reply = await watched.other.post("/v1/chat/completions", json=chat("dear"), headers=WAIT)
    assert reply.json()["has_completed"]
    found = await page(watched)
    limit, spent = "openaibatching_budget_limit_usd", "openaibatching_budget_spent_usd"
    assert total(found, limit, tenant="*") == 50
    assert total(found, limit, tenant="other") == 2.5
    assert total(found, limit) == 52.5
    paid = (await watched.other.get("/v1/costs?days=1")).json()["total"]["paid"]
    assert total(found, spent, tenant="other") == pytest.approx(paid)
    assert total(found, spent, tenant="*") >= total(found, spent, tenant="other") > 0
    assert total(found, "openaibatching_budget_reserved_usd") == 0


async def test_a_server_counts_its_replies_and_measures_queue_and_batches(watched: Door) -> None:
    before = await page(watched)
    assert (await watched.client.get("/nowhere")).status_code == 404
    assert (await watched.nobody.get("/v1/requests")).status_code == 401
    reply = await watched.client.post("/v1/chat/completions", json=chat("timed"), headers=WAIT)
    assert reply.status_code == 200
    after = await page(watched)
    replies = "openaibatching_http_replies_total"
    assert total(after, replies, status="4xx") == total(before, replies, status="4xx") + 2
    assert total(after, replies, status="2xx") >= total(before, replies, status="2xx") + 2
    for name in ("openaibatching_queue_wait_seconds", "openaibatching_batch_duration_seconds"):
        assert total(after, f"{name}_count") > total(before, f"{name}_count")
        assert total(after, f"{name}_sum") > 0
    forecast = "openaibatching_forecast_last_success_timestamp_seconds"
    assert total(after, forecast) > 1.7e9


async def test_rules_and_dashboard_ask_only_for_what_the_page_has(watched: Door) -> None:
    wrong = chat("[[simulate:status=400]] for the dashboard")
    await watched.client.post("/v1/chat/completions", json=wrong, headers=WAIT)
    await watched.client.post("/v1/chat/completions", json=chat("dashboard"), headers=WAIT)
    text = await all_metrics(watched)
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    labels: dict[str, dict[str, set[str]]] = {}
    for name, its in await page(watched):
        for label, value in its:
            labels.setdefault(name, {}).setdefault(label, set()).add(value)
    for expression in expressions():
        for selector in selectors(expression):
            if selector.metric in OWN_OF_PROMETHEUS or ":" in selector.metric:
                continue
            family = re.sub("_(bucket|count|sum)$", "", selector.metric)
            assert {selector.metric, family} & families, expression
            for label, values in selector.labels.items():
                if label not in ("job", "event"):  # the events that there are: test_monitoring.py
                    assert set(values) <= labels[selector.metric][label], expression


OF_ALL = (
    "openaibatching_events",
    "openaibatching_http_replies",
    "openaibatching_creations",
    "openaibatching_token_limit",
    "openaibatching_queue_wait_seconds",
)


async def test_a_tenants_own_key_sees_its_own_series_only(watched: Door) -> None:
    wrong = chat("[[simulate:status=400]] of the first tenant")
    await watched.client.post("/v1/chat/completions", json=wrong, headers=WAIT)
    await watched.other.post("/v1/chat/completions", json=chat("its own"), headers=WAIT)
    failures = "openaibatching_failures_total"
    assert total(await page(watched), failures) >= 1
    of = {}
    clients = {"default": watched.client, "other": watched.other, "bad": watched.bad}
    for own, client in clients.items():
        of[own] = found = parsed((await client.get("/metrics")).text)
        assert {value for _, its in found for name, value in its if name == "tenant"} <= {own}
        counts = (await client.get("/v1/stats")).json()["requests"]
        for state, n in counts.items():
            assert total(found, "openaibatching_requests", status=state) == n
        batches = (await client.get("/v1/upstream_batches?limit=100")).json()["data"]
        assert total(found, "openaibatching_batches") == len(batches)
        paid = (await client.get("/v1/costs")).json()["total"]["paid"]
        told = total(found, "openaibatching_cost_usd_total", kind="paid")
        assert told == pytest.approx(paid)
        assert not [name for name, _ in found if name.startswith(OF_ALL)]
    assert (total(of["default"], failures) >= 1, total(of["other"], failures)) == (True, 0)
    assert total(of["bad"], "openaibatching_requests") == 0
