"""Runs, traces, spans and events as plain data, for ``--json``. Times in nanoseconds since 1970,
durations in seconds, sizes in bytes; fields are those of the library's classes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from asynctrack._reading.trees.span import TOKEN_PARTS, Span
from asynctrack._reading.trees.summary import Percentiles, RunSummary
from asynctrack._reading.trees.timing import critical_path, critical_seconds, timed
from asynctrack._reading.trees.trace import Trace


def summary(value: RunSummary) -> dict[str, Any]:
    """Return a Run in numbers."""
    fields = {name: getattr(value, name) for name in value.__slots__}
    for name, field in fields.items():
        if isinstance(field, Percentiles):
            fields[name] = asdict(field)
    fields["parameters"] = dict(value.parameters)
    fields["metrics"] = {name: asdict(metric) for name, metric in value.metrics.items()}
    return fields


def trace(value: Trace, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a trace: its spans in one list, parents before children, each with its depth."""
    depths: dict[int, int] = {}
    spans = []
    critical = critical_seconds(critical_path(timed(value)))
    for place, one in enumerate(value.walk()):
        depth = depths.get(id(one), 0)
        depths.update((id(child), depth + 1) for child in one.children)
        timing = {"self_time": one.self_time, "critical_time": critical.get(place, 0.0)}
        spans.append({**span(one), **timing, "depth": depth})
    return {
        "trace_id": value.trace_id,
        "writer_id": value.writer_id,
        "outcome": value.outcome,
        "cause": value.root.cause,
        "thread_id": value.thread_id,
        "resumes": value.resumes,
        "complete": value.complete,
        "start_unix_nano": value.start_unix_nano,
        "end_unix_nano": value.end_unix_nano,
        "duration": value.duration,
        "input_tokens": value.input_tokens,
        "output_tokens": value.output_tokens,
        "time_to_first_token": value.time_to_first_token,
        "errors": len(value.errors),
        "recovered": len(value.recovered),
        "spooled": value.spooled,
        **(more or {}),
        "spans": spans,
    }


def span(value: Span) -> dict[str, Any]:
    """Return a span, without its children."""
    error, exception = value.error, value.exception
    return {
        "span_id": value.span_id,
        "trace_id": value.trace_id,
        "parent_span_id": value.parent_span_id,
        "writer_id": value.writer_id,
        "kind": value.kind,
        "name": value.name,
        "outcome": value.outcome,
        "cause": value.cause,
        "start_unix_nano": value.start_unix_nano,
        "end_unix_nano": value.end_unix_nano,
        "duration": value.duration,
        "model": value.model,
        "input_tokens": value.input_tokens,
        "output_tokens": value.output_tokens,
        **{name: getattr(value, name) for name in TOKEN_PARTS},
        "inputs": value.inputs,
        "outputs": value.outputs,
        "error": error and {"type": error.type, "message": error.message, "raw": error.raw},
        "exception": None
        if exception is None or error is not None
        else {"type": exception.type, "message": exception.message, "raw": exception.raw},
        "tags": list(value.tags),
        "metadata": dict(value.metadata),
        "attributes": dict(value.attributes),
        "data": dict(value.data),
        "notes": [dict(note.raw) for note in value.notes],
        "orphan": value.orphan,
        "spooled": value.spooled,
    }
