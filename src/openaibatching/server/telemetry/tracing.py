"""Traces: one span from a call to its answer, across the batch, as a part of its caller's trace.

A caller whose trace is sampled says so by `traceparent` (https://www.w3.org/TR/trace-context/),
which is stored with the request. Whichever server stores the answer, a day later perhaps, knows all
times by then, and makes the spans at once. Off, and without any package of OpenTelemetry, unless an
endpoint is set by the variables that OpenTelemetry has for it.

Attributes are those of the conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/), and `batching.…`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from openaibatching.server.domain.batch import Result
from openaibatching.server.domain.endpoints import BY_PATH
from openaibatching.server.domain.request import request_id
from openaibatching.server.errors import ConfigError
from openaibatching.server.telemetry import logs


@dataclass(frozen=True, slots=True)
class Traced:
    """A request that has finished, of a caller who traces it, with the times of its last batch."""

    id: uuid.UUID
    traceparent: str
    endpoint: str
    model: str
    attempts: int
    created_at: datetime
    queued_at: datetime
    claimed_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    finished_at: datetime
    upstream_id: str | None


if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logs.get()

COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
QUEUE_SPANS_MAX = 20_000
"""What waits for the collector, some 2 kB each; more is dropped. OTEL_BSP_MAX_QUEUE_SIZE wins."""
CLOSE_S = 1.5
REQUESTS_AT_ONCE = 100
Attributes = dict[str, str | int | float]


def from_environment(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """As OpenTelemetry's variables say; None without an endpoint. Raises ConfigError."""
    named = next((name for name in COLLECTORS if environment.get(name)), None)
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if named is None or disabled or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{named}: traces need pip install 'openaibatching[otel]' ({error.name} is missing)"
        ) from None
    try:
        return Tracing(OTLPSpanExporter(), environment)
    except ValueError as error:
        raise ConfigError(f"{named}: traces cannot be set up: {error}") from None


class Tracing:
    """Makes spans, and has them sent in the background."""

    def __init__(self, exporter: SpanExporter, environment: Mapping[str, str]) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        ours = {"service.name": "openaibatching", "service.version": version("openaibatching")}
        self._provider: TracerProvider = TracerProvider(
            resource=Resource(ours).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,  # `close` does, and does not wait for ever
        )
        set_ = "OTEL_BSP_MAX_QUEUE_SIZE" in environment
        queue = None if set_ else QUEUE_SPANS_MAX
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=queue))

    async def finished(self, traced: Sequence[Traced], results: Iterable[Result]) -> None:
        """Make the spans of these requests, whose results are committed. Whatever goes wrong here
        is logged, and nobody's loss."""
        by_id = {result.id: result for result in results}
        try:
            # In a thread and in parts: thousands of them take a while. Nothing is sent here.
            for start in range(0, len(traced), REQUESTS_AT_ONCE):
                part = traced[start : start + REQUESTS_AT_ONCE]
                await asyncio.to_thread(self._make, part, by_id)
        except Exception:
            log.exception("tracing_failed")

    def _make(self, traced: Iterable[Traced], results: Mapping[uuid.UUID, Result]) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        tracer = self._provider.get_tracer("openaibatching", version("openaibatching"))
        propagator = TraceContextTextMapPropagator()
        for request in traced:
            result = results[request.id]
            whole = tracer.start_span(
                "batching.request",
                context=propagator.extract({"traceparent": request.traceparent}),
                kind=trace.SpanKind.CLIENT,
                attributes=_attributes(request, result),
                start_time=_ns(request.created_at),
            )
            if result.state == "failed":
                whole.set_status(trace.StatusCode.ERROR, result.code or None)
            inside = trace.set_span_in_context(whole)
            for name, start, end in _parts(request):
                part = tracer.start_span(name, context=inside, start_time=_ns(start))
                part.end(_ns(end))
            whole.end(_ns(request.finished_at))

    async def close(self) -> None:
        """Send what is left, for at most CLOSE_S."""
        # In a thread that ends with the process: the SDK may wait for half a minute.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_S)


def _parts(request: Traced) -> list[tuple[str, datetime, datetime]]:
    """(name, start, end): the way of the request, with the last batch that it was in.

    A batch that OpenAI refused at once was never with it.
    """
    submitted = request.submitted_at or request.ended_at
    ended = request.ended_at
    times: list[tuple[str, datetime | None, datetime | None]] = [
        ("batching.queued", request.queued_at, request.claimed_at),
        ("batching.submit", request.claimed_at, submitted),
        ("openai.batch", request.submitted_at, ended),
        ("batching.collect", ended, request.finished_at),
    ]
    return [(name, start, max(start, end)) for name, start, end in times if start and end]


def _attributes(request: Traced, result: Result) -> Attributes:
    found: dict[str, str | int | float | None] = {
        "gen_ai.operation.name": BY_PATH[request.endpoint].operation,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": request.model or None,
        "gen_ai.response.id": result.upstream_id,
        "error.type": str(result.status_code) if result.state == "failed" else None,
        "batching.request_id": request_id(request.id),
        "batching.batch_id": request.upstream_id,
        "batching.attempts": request.attempts,
        "batching.status": result.state,
    }
    if result.state == "completed":
        found |= {
            "gen_ai.usage.input_tokens": result.tokens.input,
            "gen_ai.usage.cache_read.input_tokens": result.tokens.cached,
            "gen_ai.usage.output_tokens": result.tokens.output,
            "gen_ai.usage.reasoning.output_tokens": result.tokens.reasoning,
        }
    if result.receipt is not None:
        found["batching.cost_usd"] = float(result.receipt.paid)
    return {name: value for name, value in found.items() if value is not None}


def _ns(at: datetime) -> int:
    """Nanoseconds since 1970; to the microsecond, which a float would not be."""
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
