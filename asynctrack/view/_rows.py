"""A Trace becomes rows of the index: one for itself, one for each of its spans (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.trees.span import Span, seconds
from asynctrack._reading.trees.trace import Trace

from ._said import Words, answer_of, cut, error_line, exception_of, handed_on, preview

_PLUMBING: Final = ("seq:step:", "graph:step:", "map:key:", "branch:", "condition:")

TRACE_COLUMNS: Final = (
    ("run", "count"),
    ("no", "count"),
    ("trace_id", "text"),
    ("writer_id", "text"),
    ("session_id", "text"),
    ("user_id", "text"),
    ("thread_id", "text"),
    ("name", "text"),
    ("outcome", "text"),
    ("cause", "text"),
    ("resumes", "text"),
    ("chosen", "count"),
    ("start", "count"),
    ("duration", "number"),
    ("spans", "count"),
    ("errors", "count"),
    ("recovered", "count"),
    ("model_calls", "count"),
    ("input_tokens", "count"),
    ("output_tokens", "count"),
    ("cache_read_tokens", "count"),
    ("reasoning_tokens", "count"),
    ("cost", "number"),
    ("first_token", "number"),
    ("error", "text"),
    ("asks", "text"),
    ("names", "texts"),
    ("models", "texts"),
    ("tags", "texts"),
    ("input", "text"),
    ("output", "text"),
    ("input_key", "count"),
    ("output_key", "count"),
    ("spooled", "truth"),
    ("words", "text"),
)
SPAN_COLUMNS: Final = (
    ("run", "count"),
    ("no", "count"),
    ("place", "count"),
    ("depth", "count"),
    ("span_id", "text"),
    ("parent_span_id", "text"),
    ("name", "text"),
    ("kind", "text"),
    ("outcome", "text"),
    ("cause", "text"),
    ("start", "count"),
    ("end", "count"),
    ("duration", "number"),
    ("model", "text"),
    ("input_tokens", "count"),
    ("output_tokens", "count"),
    ("cache_read_tokens", "count"),
    ("cache_write_tokens", "count"),
    ("reasoning_tokens", "count"),
    ("cost", "number"),
    ("first_token", "number"),
    ("error", "text"),
    ("hands_on", "text"),
    ("orphan", "truth"),
    ("payload", "text"),
)

Row = tuple[Any, ...]
Cost = Callable[[Span], float | None]
"""What a model call cost, in USD; None if unknown."""


def rows_of(
    run: int, number: int, trace: Trace, cost_of: Cost, *, spooled: bool = False
) -> tuple[Row, list[Row]]:
    """Return the row of a trace and those of its spans, parents before children.

    Args:
        run: The Run's number in the index.
        number: The trace's number in the index.
        trace: The trace.
        cost_of: What a model call cost.
        spooled: Whether a part of it is not delivered, as far as is known.
    """
    spans: list[Row] = []
    words = Words()
    names: dict[str, None] = {}
    models: dict[str, None] = {}
    tags: dict[str, None] = {}
    read = written = cached = reasoning = calls = errors = raised = 0
    costs: list[float] = []
    error: str | None = None
    asks: list[str] = []
    blame = trace.blame
    shown: dict[str, int] = {}
    for place, (depth, span) in enumerate(_walk(trace)):
        cost = cost_of(span)
        first = seconds((span.stream or {}).get("time_to_first_token"))
        failed = None if span.error is None else error_line(span.error)
        handed = handed_on(span) if span.hands_on else None
        spans.append(
            (
                run,
                number,
                place,
                depth,
                span.span_id,
                span.parent_span_id,
                cut(span.name),
                cut(span.kind),
                span.outcome,
                span.cause,
                span.start_unix_nano,
                span.end_unix_nano,
                span.duration,
                cut(span.model),
                span.input_tokens,
                span.output_tokens,
                span.cache_read_tokens,
                span.cache_write_tokens,
                span.reasoning_tokens,
                cost,
                first,
                failed,
                handed,
                span.orphan,
                payload_of(span),
            )
        )
        if span.name:
            names[cut(span.name)] = None
        if span.model:
            models[cut(span.model)] = None
        for tag in span.tags:
            if not tag.startswith(_PLUMBING):
                tags[cut(tag)] = None
        if span.kind in ("llm", "chat_model"):
            calls += 1
            read += span.input_tokens or 0
            written += span.output_tokens or 0
            cached += span.cache_read_tokens or 0
            reasoning += span.reasoning_tokens or 0
            shown.setdefault("model", place)
            if cost is not None:
                costs.append(cost)
        if failed is not None:
            errors += 1
            error = error or failed
            raised += span.raised
        if span is blame:
            shown["blame"] = place
        if handed is not None and span.cause == "pause":
            shown.setdefault("pause", place)
            asks.append(handed)
        words.add(exception_of(span))
        words.add(span.inputs)
        words.add(span.outputs if span.outcome == "ok" else answer_of(span.outputs, span.data))
    root = trace.root
    paused = root.cause == "pause"
    first_shown = ("blame", "pause", "model") if paused else ("blame", "model")
    words.add(dict(root.metadata))
    whose = [one and cut(one) for one in (trace.session_id, trace.user_id, trace.thread_id)]
    words.add(whose)
    for name in names:
        words.add(name)
    return (
        run,
        number,
        trace.trace_id,
        trace.writer_id,
        *whose,
        cut(root.name or root.kind),
        trace.outcome,
        root.cause,
        trace.resumes,
        next((shown[what] for what in first_shown if what in shown), 0),
        trace.start_unix_nano,
        trace.duration,
        len(spans),
        errors,
        0 if trace.failed else raised,
        calls,
        read,
        written,
        cached,
        reasoning,
        sum(costs) if costs else None,
        trace.time_to_first_token,
        error,
        cut(" · ".join(asks)) if paused else None,
        list(names),
        list(models),
        list(tags),
        preview(root.inputs),
        preview(root.outputs),
        _key(root.inputs),
        _key(root.outputs),
        spooled,
        words.text(),
    ), spans


def payload_of(span: Span) -> str:
    """Return everything that was logged of a span, as JSON text."""
    payload = {
        "inputs": span.inputs,
        "outputs": span.outputs,
        "error": exception_of(span) if span.error is not None else None,
        "exception": exception_of(span) if span.error is None else None,
        "tags": list(span.tags),
        "metadata": dict(span.metadata),
        "attributes": dict(span.attributes),
        "data": dict(span.data),
        "notes": [dict(event.raw) for event in span.notes],
    }
    return json_text({name: value for name, value in payload.items() if value}) or "{}"


def _walk(trace: Trace) -> Iterator[tuple[int, Span]]:
    waiting = [(0, root) for root in reversed(trace.roots)]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting.extend((depth + 1, child) for child in reversed(span.children))


def _key(value: Any) -> int | None:
    """Return a number that is the same for the same value, to find it in another Run."""
    text = json_text(value)
    if text is None:
        return None
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
