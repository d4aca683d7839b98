"""A collector of traces: OTLP over HTTP, as OpenTelemetry's own ones speak it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

ERROR = 2
"""STATUS_CODE_ERROR of the protocol."""


@dataclass
class Collector:
    """`url` is an OTEL_EXPORTER_OTLP_ENDPOINT. What has arrived is in `spans`."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def trace(self, trace_id: str) -> dict[str, Span]:
        """{name: span} of a trace; each name once."""
        its = [span for span in self.spans if span.trace_id.hex() == trace_id]
        named = {span.name: span for span in its}
        assert len(named) == len(its), sorted(span.name for span in its)
        return named

    def take(self, body: bytes) -> None:
        """Keep what an exporter sent."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services.add(attributes(resource.resource)["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans


def attributes(of: Any) -> dict[str, Any]:
    """Attributes of a span or a resource, as values of Python."""
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in of.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            collector.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
