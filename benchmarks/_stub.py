"""A server that accepts everything, in a process of its own: where the peers send to.

``python -m benchmarks._stub`` prints its address and ends when its standard input is closed.
``GET /__counts`` tells what came in since the last time: requests, bytes, and how many spans they
held. As S3 it can hang or fail: addresses below ``/__hang`` are never answered, below ``/__fail``
with 503.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from asynctrack.demo._process import announce, end_with_parent, ignore_interrupts, server_process

_LANGSMITH_RUN = re.compile(rb'name="(?:post|patch)\.([0-9a-f-]{36})"')
_EXPERIMENT = {
    "experiment_id": "1",
    "name": "benchmark",
    "artifact_location": "mlflow-artifacts:/1",
    "lifecycle_stage": "active",
}


@contextmanager
def stub_server() -> Iterator[str]:
    """Run the server until the block is left; yields its base URL."""
    with server_process("benchmarks._stub") as announced:
        yield str(announced["url"])


class _Received:
    """What came in. Bodies are kept as they are and only looked into when counts are asked for."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0
        self.bodies: list[tuple[str, str, bytes]] = []

    def add(self, path: str, encoding: str, body: bytes) -> None:
        self.requests += 1
        self.bytes += len(body)
        if path.endswith(("/v1/traces", "/runs/multipart")):
            self.bodies.append((path, encoding, body))

    def counts(self) -> dict[str, int]:
        spans = 0
        runs: set[bytes] = set()
        for path, encoding, body in self.bodies:
            raw = _unpacked(body, encoding)
            if path.endswith("/v1/traces"):
                spans += _spans(raw)
            else:
                runs.update(_LANGSMITH_RUN.findall(raw))
        counts = {"requests": self.requests, "bytes": self.bytes, "spans": spans + len(runs)}
        self.__init__()  # type: ignore[misc]  # starts over
        return counts


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return body


def _spans(body: bytes) -> int:
    # By name: it belongs to the peers and is not installed where the tests run.
    service = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    request = service.ExportTraceServiceRequest.FromString(body)
    return sum(
        len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
    )


async def _serve() -> None:
    from aiohttp import web

    received = _Received()

    async def handle(request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/__hang"):
            await asyncio.sleep(3600)
        if path.startswith("/__fail"):
            await request.read()
            return web.Response(status=503)
        if path == "/__counts":
            return web.json_response(received.counts())
        body = await request.read()
        received.add(path, request.headers.get("Content-Encoding", ""), body)
        if path.endswith("/v1/traces"):
            return web.Response(body=b"", content_type="application/x-protobuf")
        if path == "/version":
            return web.Response(text="3.17.2")  # what MLflow's client asks its server for
        if path.endswith("/info"):
            limits = {
                "use_multipart_endpoint": True,
                "scale_up_qsize_trigger": 1000,
                "scale_up_nthreads_limit": 16,
                "scale_down_nempty_trigger": 4,
                "size_limit": 100,
                "size_limit_bytes": 20_971_520,
            }
            return web.json_response(
                {
                    "version": "0.12.0",
                    "batch_ingest_config": limits,
                    "instance_flags": {"zstd_compression_enabled": True},
                }
            )
        if "experiments" in path:
            return web.json_response({"experiment": _EXPERIMENT, "experiment_id": "1"})
        if path.endswith("/mlflow/traces") and body:
            return web.Response(body=body, content_type="application/json")
        return web.json_response({})

    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", handle)
    # The client's own compression is part of what is counted: bodies stay as they were sent.
    runner = web.AppRunner(application, access_log=None, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    announce({"url": f"http://{host}:{port}"})
    await asyncio.Event().wait()


def main() -> None:
    """Serve until standard input is closed."""
    ignore_interrupts()
    end_with_parent()
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
