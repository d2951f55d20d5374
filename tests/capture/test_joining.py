"""Traces that join a service's: by a header, by OpenTelemetry's span around them, by metadata."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider

from asynctrack import tracker
from asynctrack._capture.sampling import share
from asynctrack._common.traceparent import Traceparent, parsed
from asynctrack._reading.export.otlp_span import otlp_spans
from tests.capture.stored import only, traces
from tests.property.strategies import quick

HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = HEADER.split("-")[1:3]
leaf = RunnableLambda(lambda value: value)
service = TracerProvider().get_tracer("service")


def header_of(span: otel.Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_a_header(tmp_path: Path) -> None:
    """The root has the header, nothing below it does, and an export makes it a part of the
    service's trace."""
    with tracker(tmp_path) as handler, handler.span("job", traceparent=f" {HEADER} ") as span:
        leaf.invoke(1, {"callbacks": [handler]})
    trace = only(tmp_path)
    assert trace.trace_id == span.trace_id == span.span_id
    assert dict(trace.root.metadata) == {"traceparent": HEADER}
    (child,) = trace.root.children
    assert "traceparent" not in child.metadata
    root, below = otlp_spans(trace)
    assert (root.trace_id, root.parent_span_id) == (TRACE, SPAN)
    assert (below.trace_id, below.parent_span_id) == (TRACE, root.span_id)


def test_a_header_begins_a_trace(tmp_path: Path) -> None:
    """In a loop that takes messages, the trace of each is its own, and not the loop's."""
    with tracker(tmp_path) as handler, handler.span("worker"):
        with handler.span("job", traceparent=HEADER):
            leaf.invoke(1, {"callbacks": [handler]})
        with handler.span("idle"):
            pass
    worker, job = traces(tmp_path)
    assert [child.name for child in worker.root.children] == ["idle"]
    assert job.root.name == "job" and len(job.root.children) == 1


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        HEADER.upper(),
        HEADER + "-more",
        "ff" + HEADER[2:],
        HEADER.replace(TRACE, "0" * 32),
        HEADER.replace(SPAN, "0" * 16),
        HEADER.replace("4", "٤"),
        b"00",
        7,
    ],
)
def test_a_header_that_is_not_valid(tmp_path: Path, header: Any) -> None:
    """It is ignored: the span is where it would be without."""
    with (
        tracker(tmp_path) as handler,
        handler.span("outer"),
        handler.span("inner", traceparent=header),
    ):
        pass
    trace = only(tmp_path)
    assert [span.name for span in trace.walk()] == ["outer", "inner"]
    assert not any(span.metadata for span in trace.walk())


def test_a_later_version_of_the_header() -> None:
    """Of a version that is not known yet, what is known is taken."""
    assert str(parsed("01-" + HEADER[3:] + "-what-else")) == HEADER


@quick
@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}"))
def test_any_header(text: str) -> None:
    """What anybody sends raises nothing, and what is taken is valid."""
    found = parsed(text)
    if found is not None:
        assert parsed(str(found)) == found
        assert int(found.trace_id, 16) and int(found.span_id, 16)


def test_in_a_span_of_opentelemetrys(tmp_path: Path) -> None:
    """Any root in it has it: of a chain and of a span of ours; a header counts more, and so do
    metadata."""
    other = str(Traceparent("a" * 32, "b" * 16))
    with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}
        with service.start_as_current_span("request") as span:
            leaf.invoke(1, config)
            with handler.span("ours"):
                leaf.invoke(1, config)
            with handler.span("job", traceparent=HEADER):
                pass
            leaf.invoke(1, {**config, "metadata": {"traceparent": other, "mine": 1}})
        leaf.invoke(1, config)
    around = header_of(span)
    found = traces(tmp_path)
    assert [trace.root.metadata.get("traceparent") for trace in found] == [
        around, around, HEADER, other, None,
    ]  # fmt: skip
    chain, ours, _, named, after = found
    assert "traceparent" not in ours.root.children[0].metadata
    assert named.root.metadata["mine"] == 1
    (exported,) = otlp_spans(chain)
    assert exported.trace_id == around.split("-")[1]
    assert exported.parent_span_id == around.split("-")[2]
    (exported,) = otlp_spans(after)
    assert exported.trace_id == UUID(after.trace_id).hex and exported.parent_span_id is None


async def test_each_task_joins_its_own(tmp_path: Path) -> None:
    """Requests at the same time join the trace that each is in, in an asynchronous handler."""
    headers: dict[int, str] = {}
    async with tracker(tmp_path) as handler:

        async def serve(number: int) -> None:
            with service.start_as_current_span("request") as span:
                headers[number] = header_of(span)
                await asyncio.sleep(0)
                await leaf.ainvoke(number, {"callbacks": [handler]})

        await asyncio.gather(*map(serve, range(5)))
    found = await asyncio.to_thread(traces, tmp_path)
    assert {trace.root.inputs: trace.root.metadata["traceparent"] for trace in found} == headers


def test_sampled_with_the_service(tmp_path: Path) -> None:
    """A sample keeps the same of a service's traces everywhere: it goes by the service's id."""
    headers = [str(Traceparent(f"{n:032x}", "b" * 16)) for n in range(1, 41)]
    with tracker(tmp_path, sample=0.5) as handler:
        for header in headers:
            with handler.span("job", traceparent=header):
                pass
    kept = {trace.root.metadata["traceparent"] for trace in traces(tmp_path)}
    assert kept == {one for one in headers if share(UUID(one.split("-")[1])) < 0.5}
    assert 0 < len(kept) < len(headers)


def test_a_custom_redaction_that_cuts_it(tmp_path: Path) -> None:
    """What is not whole any more joins nothing."""
    with (
        tracker(tmp_path, redact="[0-9a-f]{32}") as handler,
        handler.span("job", traceparent=HEADER),
    ):
        pass
    trace = only(tmp_path)
    (exported,) = otlp_spans(trace)
    assert exported.trace_id == UUID(trace.trace_id).hex and exported.parent_span_id is None


def test_opentelemetry_is_not_imported() -> None:
    """Who does not use it does not pay for its import."""
    code = (
        "import sys, tempfile\n"
        "from asynctrack import tracker\n"
        "with tracker(tempfile.mkdtemp()) as handler, handler.span('x'): pass\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
