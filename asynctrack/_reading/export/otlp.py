"""Traces to OpenTelemetry's OTLP JSON, with its GenAI attributes.

One line is one ``ExportTraceServiceRequest``, as the Collector's ``otlpjsonfile`` receiver and the
``/v1/traces`` endpoint take it. A small Run is one line; a large one has several, each bounded, so
that neither side holds a whole Run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.export.otlp_span import OtlpSpan, Value, otlp_spans
from asynctrack._reading.export.resource import resource_attributes
from asynctrack._reading.trees.trace import Trace

SPANS: Final = 1_000
LINE_BYTES: Final = 4_000_000
"""Spans of a line at most, and their size in bytes, except for a single span."""

_INTERNAL, _CLIENT, _ERROR = 1, 3, 2


def otlp_lines(
    traces: Iterable[Trace], *, experiment: str, run: str, version: str
) -> Iterator[bytes]:
    """Yield lines of OTLP JSON; one without spans where there are none.

    Args:
        traces: The traces.
        experiment: The experiment's name; it is the service's name.
        run: The Run's name.
        version: Of asynctrack.
    """
    resource = _attributes(resource_attributes(experiment, run))
    head = (
        f'{{"resourceSpans":[{{"resource":{json_text({"attributes": resource})},"scopeSpans":'
        f'[{{"scope":{json_text({"name": "asynctrack", "version": version})},"spans":['
    ).encode()
    tail = b"]}]}]}\n"
    spans: list[bytes] = []
    size = 0
    lines = 0
    for trace in traces:
        for span in otlp_spans(trace):
            one = (json_text(_document(span)) or "").encode()
            if spans and (len(spans) >= SPANS or size + len(one) > LINE_BYTES):
                yield head + b",".join(spans) + tail
                lines += 1
                spans, size = [], 0
            spans.append(one)
            size += len(one)
    if spans or not lines:
        yield head + b",".join(spans) + tail


def _document(span: OtlpSpan) -> dict[str, Any]:
    """Return a span as OTLP JSON."""
    found: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _CLIENT if span.remote else _INTERNAL,
        "startTimeUnixNano": str(span.start_unix_nano),
        "endTimeUnixNano": str(span.end_unix_nano),
        "attributes": _attributes(span.attributes),
        "status": {} if span.error is None else {"code": _ERROR, "message": span.error},
    }
    if span.parent_span_id is not None:
        found["parentSpanId"] = span.parent_span_id
    if span.events:
        found["events"] = [
            {
                "timeUnixNano": str(event.time_unix_nano),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ]
    return found


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # JSON has no 64 bits
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
