"""A span as OpenTelemetry has it, before it is written: as JSON, or by OpenTelemetry's exporter."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Union
from uuid import UUID

from asynctrack._common.traceparent import of_root
from asynctrack._reading.decoding.events import Event, json_text
from asynctrack._reading.export.genai import (
    name_of,
    operation_of,
    session_attributes,
    span_attributes,
)
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

Value = Union[str, bool, int, float, "list[str]"]

_REMOTE: Final = frozenset({"chat", "text_completion"})


@dataclass(frozen=True, slots=True)
class OtlpEvent:
    """A moment of a span.

    Attributes:
        time_unix_nano: When.
        name: Its name.
        attributes: What it says.
    """

    time_unix_nano: int
    name: str
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class OtlpSpan:
    """A span.

    Attributes:
        trace_id: 16 bytes in hex.
        span_id: 8 bytes in hex.
        parent_span_id: The same of the span above; None for a root.
        name: Its name.
        remote: Whether it is a call of another service.
        start_unix_nano: When it started.
        end_unix_nano: When it ended, not before.
        attributes: What it says.
        events: Its moments.
        error: The message of the error that it ended with; None where it has none.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    remote: bool
    start_unix_nano: int
    end_unix_nano: int
    attributes: Mapping[str, Value]
    events: tuple[OtlpEvent, ...]
    error: str | None


def otlp_spans(trace: Trace, known_as: str | None = None) -> Iterator[OtlpSpan]:
    """Yield the spans of a trace, parents before children. One that was called by a service is part
    of the service's trace, below the span that called.

    Args:
        trace: The trace, or what came late of one.
        known_as: OpenTelemetry's id of it, where what came before was sent under that one.
    """
    around = session_attributes(trace)
    called_by = of_root(trace.root.metadata)
    trace_id = known_as or trace_id_of(trace.trace_id)
    if called_by is not None:
        trace_id = called_by.trace_id
    parents: dict[int, Span] = {}
    for span in trace.walk():
        parents.update((id(child), span) for child in span.children)
        made = _otlp_span(span, parents.pop(id(span), None), trace_id, around)
        if called_by is not None and made.parent_span_id is None:
            made = replace(made, parent_span_id=called_by.span_id)
        yield made


def trace_id_of(text: str) -> str:
    """Return OpenTelemetry's id of a trace: 16 bytes in hex, those of the UUID."""
    return _id_bytes(text).hex()


def span_id_of(text: str) -> str:
    """Return OpenTelemetry's id of a span: 8 bytes in hex, the random half of the UUID."""
    return _id_bytes(text)[8:].hex()


def _id_bytes(text: str) -> bytes:
    try:
        found = UUID(text).bytes
    except ValueError:
        found = bytes(16)
    if not any(found[:8]) or not any(found[8:]):  # zeros are no id
        found = hashlib.sha256(text.encode()).digest()[:16]
    return found


def _otlp_span(
    span: Span, parent: Span | None, trace_id: str, around: Mapping[str, Any]
) -> OtlpSpan:
    times = [note.time_unix_nano for note in span.notes]
    start = span.start_unix_nano or min(times, default=span.end_unix_nano or 0)
    end = span.end_unix_nano or max([start, *times])
    if span.duration is not None and span.start_unix_nano is not None:
        end = start + round(span.duration * 1e9)  # the clock may have been set meanwhile
    end = max(start, end)
    operation = operation_of(span, parent)
    above = span.parent_span_id
    events = [_note(note) for note in span.notes]
    if span.exception is not None:
        exception = {
            "exception.type": span.exception.type,
            "exception.message": span.exception.message,
            "exception.stacktrace": span.exception.traceback,
        }
        events.append(OtlpEvent(end, "exception", exception))
    error = span.error
    return OtlpSpan(
        trace_id=trace_id,
        span_id=span_id_of(span.span_id),
        parent_span_id=None if above is None else span_id_of(above),
        name=name_of(span, operation),
        remote=operation in _REMOTE,
        start_unix_nano=start,
        end_unix_nano=end,
        attributes=_plain({**span_attributes(span, operation), **around}),
        events=tuple(events),
        error=None if error is None else error.message,
    )


def _note(note: Event) -> OtlpEvent:
    fields = {
        f"asynctrack.{name}": json_text(value)
        for name in ("inputs", "outputs", "error", "data")
        if (value := note.raw.get(name)) is not None
    }
    name = note.name if note.event == "custom_event" and note.name else note.event
    return OtlpEvent(note.time_unix_nano, name, _plain(fields))


def _plain(values: Mapping[str, Any]) -> dict[str, Value]:
    return {key: _value(value) for key, value in values.items() if value is not None}


def _value(value: Any) -> Value:
    """Return a value as OpenTelemetry takes it: what it has no type for is JSON."""
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return json_text(value) or ""
