"""One trace from a call to its answer, as a collector gets it."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from openaibatching.server.api.http.server import listen
from openaibatching.server.app import Service
from openaibatching.server.telemetry.tracing import Tracing, from_environment
from openaibatching.simulator import Simulator, running
from support.collector import ERROR, Collector, attributes, collecting
from support.door import TEMPLATE, WAIT, Door
from support.postgres import ONE_KIND, Cluster
from support.process import environment, free_port, server_process
from support.steps import chat
from support.world import KEY, http, settings_for, until

pytestmark = ONE_KIND

CHAT = "/v1/chat/completions"
PARTS = {"batching.queued", "batching.submit", "openai.batch", "batching.collect"}
WHOLE = "batching.request"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def tracing_to(url: str) -> Tracing:
    """As a server would be set up by its environment, but impatient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        tracing = from_environment()
    assert tracing is not None
    return tracing


@pytest.fixture(scope="module")
async def traced(
    cluster: Cluster, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A server whose calls are answered at once, and who tells the collector."""
    with cluster.database(TEMPLATE) as url, running(Simulator(lag=0.0)) as base_url:
        settings = settings_for(base_url, tmp_path_factory.mktemp("t"), batch_attempts_max=1)
        tracing = tracing_to(collector.url)
        service = Service(settings, {"default": KEY}, url, listen(settings), tracing)
        await service.start()
        yield service
        await service.stop()


def new_trace(flags: str = "01") -> tuple[str, str, dict[str, str]]:
    """(trace id, the caller's span, its header)."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-{flags}"}


async def call(service: Service, text: str, headers: dict[str, str]) -> dict[str, Any]:
    async with http(service) as client:
        reply = await client.post(CHAT, json=chat(text), headers=WAIT | headers)
    body: dict[str, Any] = reply.json()
    assert reply.headers["x-batching-status"] in ("completed", "failed"), body
    return body


async def whole(collector: Collector, trace: str) -> dict[str, Span]:
    async def arrived() -> dict[str, Span] | None:
        spans = collector.trace(trace)
        return spans if WHOLE in spans and spans.keys() >= PARTS else None

    spans: dict[str, Span] = await until(arrived)
    return spans


async def test_a_call_with_a_sampled_traceparent_becomes_one_trace_to_its_answer(
    traced: Service, collector: Collector
) -> None:
    trace, caller, header = new_trace()
    body = await call(traced, "trace me", header)
    spans = await whole(collector, trace)
    assert spans.keys() == PARTS | {WHOLE}
    request = spans[WHOLE]
    assert request.parent_span_id.hex() == caller
    assert {spans[name].parent_span_id for name in PARTS} == {request.span_id}
    told = attributes(request)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "gpt-4o"
    assert told["gen_ai.response.id"] == body["id"]
    assert told["gen_ai.usage.input_tokens"] == body["usage"]["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == body["usage"]["completion_tokens"]
    batching = body["batching"]
    assert told["batching.request_id"] == batching["id"]
    assert told["batching.batch_id"] == batching["batch_id"]
    assert told["batching.attempts"] == batching["attempts"] == 1
    assert told["batching.status"] == "completed"
    assert told["batching.cost_usd"] == pytest.approx(batching["cost"]["paid"])
    assert collector.services == {"openaibatching"}


async def test_the_parts_follow_each_other_from_the_call_to_the_answer(
    traced: Service, collector: Collector
) -> None:
    trace, _, header = new_trace()
    await call(traced, "time me", header)
    spans = await whole(collector, trace)
    request = spans[WHOLE]
    order = ("batching.queued", "batching.submit", "openai.batch", "batching.collect")
    parts = [spans[name] for name in order]
    assert parts[0].start_time_unix_nano == request.start_time_unix_nano
    assert parts[-1].end_time_unix_nano == request.end_time_unix_nano
    for earlier, later in pairwise(parts):
        assert earlier.end_time_unix_nano == later.start_time_unix_nano
    assert all(part.end_time_unix_nano >= part.start_time_unix_nano for part in parts)
    with psycopg.connect(traced.database.url) as conn:
        row = conn.execute(
            "select extract(epoch from r.created_at), extract(epoch from b.submitted_at)"
            " from openaibatching.shown_request r join openaibatching.batch b on b.id = r.batch_id"
            " where r.id = %s::uuid",
            [str(attributes(request)["batching.request_id"]).removeprefix("batchreq_")],
        ).fetchone()
    assert row is not None
    assert request.start_time_unix_nano == int(row[0] * 10**9)
    assert spans["openai.batch"].start_time_unix_nano == int(row[1] * 10**9)


async def test_a_request_that_failed_says_so(traced: Service, collector: Collector) -> None:
    trace, _, header = new_trace()
    await call(traced, "[[simulate:status=400]] and traced", header)
    request = (await whole(collector, trace))[WHOLE]
    assert request.status.code == ERROR
    assert attributes(request)["error.type"] == "400"
    assert attributes(request)["batching.status"] == "failed"


async def test_a_call_that_is_not_sampled_or_not_new_makes_no_trace(
    traced: Service, collector: Collector
) -> None:
    unsampled, _, not_this = new_trace("00")
    await call(traced, "not sampled", not_this)
    await call(traced, "without a trace", {})
    first, _, header = new_trace()
    await call(traced, "once", header)
    again, _, later = new_trace()
    await call(traced, "once", later)
    # Spans are sent in their order, so what comes last shows that nothing else is on its way.
    last, _, header = new_trace()
    await call(traced, "the last one", header)
    await whole(collector, last)
    await whole(collector, first)
    traces = {span.trace_id.hex() for span in collector.spans}
    assert not traces & {unsampled, again}


async def test_all_lines_of_a_bulk_call_are_in_its_trace(
    traced: Service, collector: Collector
) -> None:
    trace, caller, header = new_trace()
    lines = [
        json.dumps({"custom_id": str(n), "method": "POST", "url": CHAT, "body": chat(f"line {n}")})
        for n in range(3)
    ]
    headers = {"content-type": "application/jsonl"} | WAIT | header
    async with http(traced) as client:
        reply = await client.post("/v1/requests", content="\n".join(lines), headers=headers)
    assert reply.status_code == 200

    async def arrived() -> list[Span]:
        its = [span for span in collector.spans if span.trace_id.hex() == trace]
        return its if len(its) == 3 * (len(PARTS) + 1) else []

    requests = [span for span in await until(arrived) if span.name == WHOLE]
    assert [span.parent_span_id.hex() for span in requests] == [caller] * 3


async def test_an_answer_that_another_server_stores_is_in_the_trace_when_that_has_stopped(
    cluster: Cluster, collector: Collector, tmp_path: Path
) -> None:
    trace, caller, header = new_trace()
    with cluster.database(TEMPLATE) as url, running(Simulator(lag=0.0)) as base_url:
        settings = settings_for(base_url, tmp_path, batch_linger_s=3600)
        tracing = tracing_to(collector.url)
        patient = Service(settings, {"default": KEY}, url, listen(settings), tracing)
        await patient.start()
        async with http(patient) as client:
            reply = await client.post(CHAT, json=chat("from server to server"), headers=header)
            assert reply.status_code == 202
        await patient.stop()
        assert collector.trace(trace) == {}
        env = environment(base_url, tmp_path, POSTGRES_URL=url)
        # It sends only when it stops.
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        with server_process(env) as server:
            server.until_logged("batch_closed")
            assert server.terminate() == 0
    spans = collector.trace(trace)
    assert spans.keys() == PARTS | {WHOLE}
    assert spans[WHOLE].parent_span_id.hex() == caller


async def test_a_collector_that_is_down_harms_nothing(cluster: Cluster, tmp_path: Path) -> None:
    _, _, header = new_trace()
    before = exporters()
    with cluster.database(TEMPLATE) as url, running(Simulator(lag=0.0)) as base_url:
        settings = settings_for(base_url, tmp_path)
        tracing = tracing_to(f"http://127.0.0.1:{free_port()}")
        service = Service(settings, {"default": KEY}, url, listen(settings), tracing)
        await service.start()
        try:
            for n in range(3):
                assert (await call(service, f"nobody listens {n}", header))["has_completed"]
        finally:
            await service.stop()

    async def is_silent() -> bool:
        return not exporters() - before

    # What it still tries to send, it complains about in here and in no other test.
    await until(is_silent)


def exporters() -> set[threading.Thread]:
    """The threads that send spans."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("Otel")}


async def test_without_an_endpoint_nothing_is_kept_of_a_trace(quiet: Door) -> None:
    assert quiet.service.ctx.tracing is None
    _, _, header = new_trace()
    reply = await quiet.client.post(CHAT, json=chat("untraced"), headers=header)
    assert reply.status_code == 202
    with psycopg.connect(quiet.database_url) as conn:
        found = conn.execute("select count(traceparent) from openaibatching.body").fetchone()
    assert found == (0,)
