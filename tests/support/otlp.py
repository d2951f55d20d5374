"""A receiver of OpenTelemetry's protocol over HTTP, for traces and metrics: keeps what it takes,
answers as it is told.

::

    with otlp_receiver() as receiver:
        ...                                     # sends to receiver.url
        spans = receiver.wait_for(3)            # once so many spans are there
        receiver.answers += [503, 400]          # for the next two requests; then 200 again
        receiver.hang()                         # no answer until receiver.go_on()
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE = 60.0


class OtlpReceiver:
    """Made by `otlp_receiver`. Its attributes may be read from any thread.

    Attributes:
        url: Its address for traces.
        endpoint: Its address for all kinds, without their paths.
        answers: Statuses of the answers to come, first the next; 200 where there is none.
        requests: Those with traces that were taken, decoded.
        metrics: Those with metrics that were taken, decoded.
        headers: Those of all requests, in the order of arrival.
    """

    def __init__(self, host: str, port: int) -> None:
        self.endpoint = f"http://{host}:{port}"
        self.url = f"{self.endpoint}/v1/traces"
        self.answers: list[int] = []
        self.requests: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self._changed = threading.Condition()
        self._flows = threading.Event()
        self._flows.set()

    def spans(self) -> list[Span]:
        """All spans that were taken."""
        with self._changed:
            return [
                span
                for request in self.requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def wait_for(self, spans: int) -> list[Span]:
        """Wait until so many spans are there."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.spans()) >= spans, PATIENCE), (
                f"{len(self.spans())} of {spans} spans came"
            )
            return self.spans()

    def wait_for_requests(self, count: int) -> None:
        """Wait until so many requests have come, taken or not."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.headers) >= count, PATIENCE)

    def hang(self) -> None:
        """Answer nothing from now on."""
        self._flows.clear()

    def go_on(self) -> None:
        """Answer again, also what has waited."""
        self._flows.set()

    def receive(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Take a request; return the status."""
        if path not in ("/v1/traces", "/v1/metrics"):
            return 404
        with self._changed:
            self.headers.append(headers)
            status = self.answers.pop(0) if self.answers else 200
            self._changed.notify_all()
        self._flows.wait(PATIENCE)
        if status == 200:
            packing = headers.get("content-encoding")
            if packing == "gzip":
                body = gzip.decompress(body)
            elif packing == "deflate":
                body = zlib.decompress(body)
            with self._changed:
                if path == "/v1/traces":
                    self.requests.append(ExportTraceServiceRequest.FromString(body))
                else:
                    self.metrics.append(ExportMetricsServiceRequest.FromString(body))
                self._changed.notify_all()
        return status


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Start a receiver on this machine, and stop it when the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the base class's name
            body = self.rfile.read(int(self.headers["content-length"]))
            names = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.receive(self.path, names, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # theirs
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = OtlpReceiver("127.0.0.1", server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.go_on()
        server.shutdown()
        server.server_close()
        thread.join()
