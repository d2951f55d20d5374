"""The events of spans to a tree of Spans, with what can only be told of a span by its neighbours.

A graph that pauses ends well by itself; only its node says why. A stream that its consumer leaves
may end well, too, and then what it consists of says so. What was cancelled does not know whether a
time limit above it did that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from asynctrack._common.outcome import Verdict
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.ending import data_of, duration_of, exception_of, verdict_on
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

_NODE: Final = "langgraph_node"
"""What LangGraph's metadata call a node; all below it has it, too."""
_TIME_LIMITS: Final = frozenset({"TimeoutError", "asyncio.exceptions.TimeoutError"})


class SpanEvents:
    """The events of one span, as they come.

    Attributes:
        span_id: LangChain's run id.
        position: Its place among all spans, by their first events.
        parent_span_id: LangChain's parent run id, once known.
        start: Its start.
        end: Its end, or its error.
        gone: The event that says that nobody waits for its end any more.
        notes: All its other events.
        pending: Whether it has started and its end may come.
    """

    __slots__ = (
        "end", "gone", "notes", "parent_span_id", "pending", "position", "span_id", "start"
    )  # fmt: skip

    def __init__(self, span_id: str, position: int = 0) -> None:
        self.span_id = span_id
        self.position = position
        self.parent_span_id: str | None = None
        self.start: Event | None = None
        self.end: Event | None = None
        self.gone: Event | None = None
        self.notes: list[Event] = []
        self.pending = False


def assemble(
    trace_id: str, writer_id: str, spans: Sequence[SpanEvents], latest: Mapping[str, SpanEvents]
) -> Trace:
    """Build the tree, without recursion: it may have any depth, and need not be a tree.

    Args:
        trace_id: Its id.
        writer_id: Who recorded it.
        spans: Its spans, in the order of their first events.
        latest: The span that an id names.
    """
    below: dict[int, list[SpanEvents]] = {}
    roots: list[tuple[SpanEvents, bool]] = []
    for span in spans:
        parent = None if span.parent_span_id is None else latest.get(span.parent_span_id)
        if parent is None:
            roots.append((span, span.parent_span_id is not None))
        else:
            below.setdefault(id(parent), []).append(span)
    built: dict[int, Span] = {}
    tops = []
    for top, orphan in roots:
        _build_below(top, orphan, below, built, trace_id)
        tops.append(built[id(top)])
    for span in spans:
        if id(span) not in built:  # parents in a circle: cut at the first
            _build_below(span, True, below, built, trace_id)
            tops.append(built[id(span)])
    return Trace(trace_id, writer_id, tuple(tops))


def span_of(
    span: SpanEvents, trace_id: str, children: tuple[Span, ...] = (), *, orphan: bool = False,
    verdict: Verdict | None = None,
) -> Span:  # fmt: skip
    """Make a Span of its events.

    Args:
        span: Its events.
        trace_id: The root's id.
        children: What is below it.
        orphan: Whether it names a parent that is not there.
        verdict: How it ended; None asks its own events.
    """
    start, end = span.start, span.end
    first = start or end or span.gone or (span.notes[0] if span.notes else None)
    assert first is not None  # a span is made for an event
    outcome, cause = verdict or verdict_on(end, span.gone)
    last = end
    if last is None and outcome == "cancelled":
        last = span.gone
    # Streams know their inputs only at their end.
    inputs = end.inputs if end is not None and end.inputs is not None else None
    if inputs is None and start is not None:
        inputs = start.inputs
    notes = span.notes if span.gone is None else [*span.notes, span.gone]
    kind = _kind(start, end)
    return Span(
        span_id=span.span_id,
        trace_id=trace_id,
        parent_span_id=span.parent_span_id,
        writer_id=first.writer_id,
        position=span.position,
        kind=kind,
        name=_name(start, end, kind),
        outcome=outcome,
        cause=cause,
        start_unix_nano=None if start is None else start.time_unix_nano,
        end_unix_nano=None if last is None else last.time_unix_nano,
        duration=duration_of(start, end, span.gone if outcome == "cancelled" else None),
        inputs=inputs,
        outputs=_outputs(end),
        exception=exception_of(end),
        tags=first.tags,
        metadata=first.metadata,
        attributes={**_attributes(start), **_attributes(end)},
        data={**data_of(start), **data_of(end), **_stream(span.gone, end)},
        notes=tuple(notes),
        children=children,
        orphan=orphan,
        spooled=any(event.spooled for event in (start, end, *notes) if event is not None),
    )


def _build_below(
    top: SpanEvents,
    orphan: bool,
    below: Mapping[int, list[SpanEvents]],
    built: dict[int, Span],
    trace_id: str,
) -> None:
    order: list[SpanEvents] = []
    verdicts = {id(top): verdict_on(top.end, top.gone)}
    waiting = [top]
    while waiting:
        span = waiting.pop()
        order.append(span)
        for child in below.get(id(span), ()):
            if id(child) not in verdicts and id(child) not in built:
                verdicts[id(child)] = _because_of(
                    span, verdicts[id(span)], verdict_on(child.end, child.gone)
                )
                waiting.append(child)
    for span in reversed(order):
        parts = [
            one
            for one in below.get(id(span), ())
            if id(one) in verdicts and id(one) in built and one is not top
        ]
        children = tuple(built[id(one)] for one in parts)
        verdict = _by_children(span, verdicts[id(span)], parts, children)
        built[id(span)] = span_of(
            span, trace_id, children, orphan=span is top and orphan, verdict=verdict
        )


def _because_of(parent: SpanEvents, above: Verdict, verdict: Verdict) -> Verdict:
    """Return why a span was cancelled, if what it is part of knows better."""
    if verdict[1] in ("cancel", "parent_ended"):
        if above == ("cancelled", "timeout") or _timed_out(parent.end):
            return "cancelled", "timeout"
        if verdict[1] == "parent_ended" and above[0] == "cancelled":
            return "cancelled", above[1]
    return verdict


def _timed_out(end: Event | None) -> bool:
    """Return whether a span ended as a time limit in it was over."""
    error = end.error if end is not None and isinstance(end.error, dict) else {}
    causes = error.get("causes")
    errors = [error, *(causes if isinstance(causes, list) else ())]
    return any(isinstance(one, dict) and one.get("type") in _TIME_LIMITS for one in errors)


def _by_children(
    span: SpanEvents, verdict: Verdict, parts: Sequence[SpanEvents], children: Sequence[Span]
) -> Verdict:
    """Return how a span ended that seems to have ended well, if its children know better."""
    end = span.end
    if verdict[0] != "ok" or end is None:
        return verdict
    if children and _pauses(span, children):
        return "interrupted", "pause"
    for part, child in zip(parts, children, strict=True):
        # A stream ends well where its consumer leaves it; what it reads from hears of it later.
        if (
            child.cause == "stream_left"
            and end.inputs is not None
            and part.end is not None
            and part.end.seq > end.seq
        ):
            return "cancelled", "stream_left"
    return verdict


def _pauses(span: SpanEvents, children: Sequence[Span]) -> bool:
    """Return whether a span that has ended well waits for a human.

    LangGraph catches the interrupts of its nodes in the outermost graph. A chain whose last step is
    such a graph waits, too; in one that went on, somebody has seen to it.
    """
    last = children[-1]
    if last.cause == "pause" and last.exception is None:
        return True
    own = {} if span.start is None else span.start.metadata
    return _NODE not in own and any(
        child.cause == "pause" and child.exception is not None and _NODE in child.metadata
        for child in children
    )


def _kind(start: Event | None, end: Event | None) -> str:
    event = start or end
    if event is None:
        return "unknown"
    kind = event.event.rpartition("_")[0]
    if kind == "chain":
        given = data_of(event).get("run_type")
        return given if isinstance(given, str) else kind
    return kind


def _name(start: Event | None, end: Event | None, kind: str) -> str | None:
    """Return the component's name; a note's is that of the note."""
    for event in (start, end):
        name = None if event is None else event.name or data_of(event).get("name")
        if isinstance(name, str) and name:
            return name
    return "Retriever" if kind == "retriever" else None  # as langchain-core calls it then


def _outputs(end: Event | None) -> Any:
    if end is not None and end.event == "llm_error":
        return data_of(end).get("response")
    return None if end is None else end.outputs


def _attributes(event: Event | None) -> Mapping[str, Any]:
    return {} if event is None else event.attributes


def _stream(gone: Event | None, end: Event | None) -> Mapping[str, Any]:
    """Return the tokens of a span; its parent's end may lie in the middle of them."""
    before, after = data_of(gone).get("stream"), data_of(end).get("stream")
    if not isinstance(before, dict):
        return {}
    if not isinstance(after, dict):
        return {"stream": before}
    joined = {**after, **before}
    for name, empty in (("text", ""), ("count", 0), ("cut_tokens", 0), ("inter_token_times", [])):
        one, other = before.get(name, empty), after.get(name, empty)
        if type(one) is type(other) is type(empty) and (name in before or name in after):
            joined[name] = one + other  # type: ignore[operator]  # two texts, numbers or lists
    return {"stream": joined}
