"""Traces to OpenTelemetry's OTLP JSON, with its GenAI attributes.

One line is one ``ExportTraceServiceRequest``, as the Collector's ``otlpjsonfile`` receiver and the
``/v1/traces`` endpoint take it. A small Run is one line; a large one has several, each bounded, so
that neither side holds a whole Run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID

from asynctrack._reading.decoding.events import Event, json_text
from asynctrack._reading.export.messages import Message, input_messages, output_messages
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

SPANS: Final = 1_000
LINE_BYTES: Final = 4_000_000
"""Spans of a line at most, and their size in bytes, except for a single span."""

_CLIENT, _INTERNAL, _ERROR = 3, 1, 2
_OPERATIONS: Final = {
    "chat_model": "chat", "llm": "text_completion", "tool": "execute_tool",
}  # fmt: skip
_KINDS: Final = {
    "chat_model": "LLM", "llm": "LLM", "tool": "TOOL", "retriever": "RETRIEVER",
}  # fmt: skip


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
    resource = _attributes(
        {
            "service.name": experiment,
            "service.instance.id": run,
            "asynctrack.experiment": experiment,
            "asynctrack.run": run,
        }
    )
    head = (
        f'{{"resourceSpans":[{{"resource":{json_text({"attributes": resource})},"scopeSpans":'
        f'[{{"scope":{json_text({"name": "asynctrack", "version": version})},"spans":['
    ).encode()
    tail = b"]}]}]}\n"
    spans: list[bytes] = []
    size = 0
    lines = 0
    for trace in traces:
        around = _attributes(session_attributes(trace))
        for span in trace.walk():
            made = otlp_span(span)
            made["attributes"] += around
            one = (json_text(made) or "").encode()
            if spans and (len(spans) >= SPANS or size + len(one) > LINE_BYTES):
                yield head + b",".join(spans) + tail
                lines += 1
                spans, size = [], 0
            spans.append(one)
            size += len(one)
    if spans or not lines:
        yield head + b",".join(spans) + tail


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


def session_attributes(trace: Trace) -> dict[str, Any]:
    """Return what all spans of a trace say of its session, user and conversation: what shows them
    looks at any span, and LangChain hands on to the spans below what metadata say, not all of it.
    """
    session, thread = trace.session_id, trace.thread_id
    return {
        "session.id": session,
        "user.id": trace.user_id,
        "gen_ai.conversation.id": thread or session,
    }


def otlp_span(span: Span) -> dict[str, Any]:
    """Return a span as OTLP JSON."""
    times = [note.time_unix_nano for note in span.notes]
    start = span.start_unix_nano or min(times, default=span.end_unix_nano or 0)
    end = span.end_unix_nano or max([start, *times])
    if span.duration is not None and span.start_unix_nano is not None:
        end = start + round(span.duration * 1e9)  # the clock may have been set meanwhile
    found: dict[str, Any] = {
        "traceId": trace_id_of(span.trace_id),
        "spanId": span_id_of(span.span_id),
        "name": _name(span),
        "kind": _CLIENT if span.kind in ("chat_model", "llm") else _INTERNAL,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(max(start, end)),
        "attributes": _attributes(_span_attributes(span)),
    }
    if span.parent_span_id is not None:
        found["parentSpanId"] = span_id_of(span.parent_span_id)
    events = [_note(note) for note in span.notes]
    if span.exception is not None:
        exception = {
            "exception.type": span.exception.type,
            "exception.message": span.exception.message,
            "exception.stacktrace": span.exception.traceback,
        }
        events.append(
            {
                "timeUnixNano": str(end),
                "name": "exception",
                "attributes": _attributes(exception),
            }
        )
    error = span.error
    found["status"] = {} if error is None else {"code": _ERROR, "message": error.message}
    if events:
        found["events"] = events
    return found


def _name(span: Span) -> str:
    """Return the name that the GenAI conventions give: the operation, and on what."""
    operation = _OPERATIONS.get(span.kind)
    subject = span.name if span.kind == "tool" else span.model
    if operation is None or not subject:
        return span.name or span.kind
    return f"{operation} {subject}"


def _span_attributes(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {}
    operation = _OPERATIONS.get(span.kind)
    if operation is not None:
        found["gen_ai.operation.name"] = operation
    found.update(span.attributes)
    if span.kind == "tool":
        found["gen_ai.tool.name"] = span.name
        found["gen_ai.tool.call.arguments"] = json_text(span.inputs)
        found["gen_ai.tool.call.result"] = json_text(span.outputs)
    told, said = input_messages(span, None), output_messages(span, None)  # data stays data
    if told:
        found["gen_ai.input.messages"] = json_text([_semantic(one) for one in told])
    if said:
        found["gen_ai.output.messages"] = json_text([_semantic(one, said=True) for one in said])
    # What OpenInference calls it, which Phoenix and others show.
    found["openinference.span.kind"] = _KINDS.get(span.kind, "CHAIN")
    for name, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            plain = isinstance(value, str)
            found[f"{name}.value"] = value if plain else json_text(value)
            found[f"{name}.mime_type"] = "text/plain" if plain else "application/json"
    if span.error is not None:
        found["error.type"] = span.error.type or "_OTHER"
    for name in ("count", "time_to_first_token"):
        found[f"asynctrack.stream.{name}"] = (span.stream or {}).get(name)
    found["langchain.tags"] = list(span.tags) or None
    found["langchain.metadata"] = json_text(dict(span.metadata)) if span.metadata else None
    found["asynctrack.kind"] = span.kind
    found["asynctrack.name"] = span.name
    found["asynctrack.span_id"] = span.span_id
    found["asynctrack.writer_id"] = span.writer_id
    found["asynctrack.outcome"] = span.outcome
    found["asynctrack.cause"] = span.cause
    found["asynctrack.started"] = None if span.started else False
    found["asynctrack.orphan"] = True if span.orphan else None
    return found


def _semantic(message: Message, *, said: bool = False) -> dict[str, Any]:
    """Return a message as the GenAI conventions have it."""
    parts: list[dict[str, Any]] = []
    if message.role == "tool" and message.call_id is not None:
        parts.append(
            {"type": "tool_call_response", "id": message.call_id, "response": message.text}
        )
    elif message.text:
        parts.append({"type": "text", "content": message.text})
    parts += [
        {"type": "tool_call", "id": call.call_id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    found: dict[str, Any] = {"role": message.role, "parts": parts}
    if said:
        found["finish_reason"] = message.finish_reason or "unknown"
    return found


def _note(note: Event) -> dict[str, Any]:
    fields = {
        f"asynctrack.{name}": json_text(value)
        for name in ("inputs", "outputs", "error", "data")
        if (value := note.raw.get(name)) is not None
    }
    return {
        "timeUnixNano": str(note.time_unix_nano),
        "name": note.name if note.event == "custom_event" and note.name else note.event,
        "attributes": _attributes(fields),
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": _value(value)} for key, value in values.items() if value is not None
    ]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and abs(value) < 2**63:
        return {"intValue": str(value)}  # JSON has no 64 bits
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
    return {"stringValue": json_text(value) or ""}
