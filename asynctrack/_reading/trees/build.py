"""Events to Spans and Traces: pair starts with ends, build the trees, keep what does not fit.

A trace is yielded once all its spans have ended and some more events have passed: late events (a
background task of a chain that has ended) still find their parent meanwhile. So memory holds the
open traces and a bounded number of events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.span import Span, SpanError, Trace

LINGER: Final = 2_000
"""Events that pass before a trace is yielded whose root and spans have ended."""
LINGER_WITHOUT_ROOT: Final = 100_000
"""The same for a trace without open spans whose root's end is not there: dropped events must not
keep the rest of their traces in memory for good."""
LINGER_BYTES: Final = 32 * 1024 * 1024
"""Size of the lines, in bytes, above which traces without open spans wait no longer."""

_KINDS: Final = ("chain", "llm", "chat_model", "tool", "retriever")
_NEITHER: Final = (False, False)
_EVENTS: Final = {
    **{f"{kind}_start": (True, False) for kind in _KINDS},
    **{f"{kind}_{what}": (False, True) for kind in _KINDS for what in ("end", "error")},
}
"""Whether an event starts a span, and whether it ends one."""


class _OpenSpan:
    __slots__ = ("end", "notes", "parent_span_id", "span_id", "start")

    def __init__(self, span_id: str) -> None:
        self.span_id = span_id
        self.parent_span_id: str | None = None
        self.start: Event | None = None
        self.end: Event | None = None
        self.notes: list[Event] = []


class _OpenTrace:
    __slots__ = (
        "ended", "latest", "pending", "rests", "size", "spans", "trace_id", "writer_id"
    )  # fmt: skip

    def __init__(self, writer_id: str, trace_id: str) -> None:
        self.writer_id = writer_id
        self.trace_id = trace_id
        self.spans: list[_OpenSpan] = []
        self.latest: dict[str, _OpenSpan] = {}
        """The span of each id: the last one if an id is used twice."""
        self.pending = 0
        """Spans that have started and not ended; a start comes before all else or not at all."""
        self.ended = False
        """Whether the root has ended."""
        self.rests: bool | None = None
        """Which waiting traces it is among, by ``ended``; None while it has open spans."""
        self.size = 0
        """Of its events, as lines, in bytes."""


_Key = tuple[str, str]


class TraceBuilder:
    """Puts events into open traces, one by one; ``build_traces`` does it for a whole stream.

    Ids count for one writer: two handlers on a chain record the same spans, and each trace must be
    whole by itself.

    Args:
        linger: How many events a complete trace waits for what comes late.
    """

    def __init__(self, linger: int) -> None:
        self._linger = {True: linger, False: max(linger, LINGER_WITHOUT_ROOT)}
        self._of_span: dict[_Key, _OpenTrace] = {}
        self._of_trace: dict[_Key, _OpenTrace] = {}
        # Those without open spans, by whether the root has ended; the first is due first.
        self._resting: dict[bool, OrderedDict[int, tuple[_OpenTrace, int]]]
        self._resting = {True: OrderedDict(), False: OrderedDict()}
        self._open: dict[int, _OpenTrace] = {}
        self._resting_bytes = 0
        self._changed: dict[int, _OpenTrace] = {}
        self._seen = 0

    def add(self, event: Event) -> Iterator[Trace]:
        """Take an event; yield the traces that are due."""
        raw = event.raw
        span_id = raw.get("span_id")
        if span_id is None:
            return  # log_parameters and log_metric belong to no span
        self._seen += 1
        starts, ends = _EVENTS.get(raw["event"], _NEITHER)
        key = (raw["writer_id"], span_id)
        trace = self._of_span.get(key)
        if starts and trace is not None and trace.pending == 0 and trace.latest[span_id].start:
            # The id names a call that is complete: this is another call.
            yield self._finish(trace)
            trace = None
        if trace is None:
            trace = self._trace_for(event, span_id)
        span = trace.latest.get(span_id)
        if span is None or (starts and span.start is not None):
            span = _OpenSpan(span_id)
            trace.spans.append(span)
            trace.latest[span_id] = span
            self._of_span[key] = trace
        parent_span_id = raw.get("parent_span_id")
        if parent_span_id is not None:
            span.parent_span_id = parent_span_id
        if starts:
            span.start = event
            trace.pending += span.end is None
        elif ends and span.end is None:
            span.end = event
            trace.pending -= span.start is not None
            trace.ended = trace.ended or span.parent_span_id is None
        else:
            span.notes.append(event)
        self._changed[id(trace)] = trace
        self._wake(trace)
        trace.size += event.size
        if trace.pending == 0:
            self._rest(trace)
        for resting in self._resting.values():
            while resting:
                oldest, due = next(iter(resting.values()))
                if due > self._seen and self._resting_bytes <= LINGER_BYTES:
                    break
                yield self._finish(oldest)

    def rest(self) -> Iterator[Trace]:
        """Yield all traces that are still there, in the order in which they began."""
        for trace in list(self._open.values()):
            yield self._finish(trace)

    def open(self) -> list[Trace]:
        """Return the traces that were not yielded yet, as they are now; they stay."""
        return [_tree(trace) for trace in self._open.values()]

    def changed(self) -> list[Trace]:
        """Return those of ``open`` that got events since the last call."""
        changed, self._changed = self._changed, {}
        return [_tree(trace) for trace in changed.values()]

    def _trace_for(self, event: Event, span_id: str) -> _OpenTrace:
        # By the parent first: a writer that has forgotten the trace uses the parent's id for it.
        trace = None
        if event.parent_span_id is not None:
            trace = self._of_span.get((event.writer_id, event.parent_span_id))
        if trace is None:
            key = (event.writer_id, event.trace_id or span_id)
            trace = self._of_trace.get(key)
        if trace is None:
            trace = self._of_trace[key] = _OpenTrace(*key)
            self._open[id(trace)] = trace
        return trace

    def _rest(self, trace: _OpenTrace) -> None:
        due = self._seen + self._linger[trace.ended]
        trace.rests = trace.ended
        self._resting[trace.ended][id(trace)] = (trace, due)
        self._resting_bytes += trace.size

    def _wake(self, trace: _OpenTrace) -> None:
        if trace.rests is not None:
            del self._resting[trace.rests][id(trace)]
            self._resting_bytes -= trace.size
            trace.rests = None

    def _finish(self, trace: _OpenTrace) -> Trace:
        self._wake(trace)
        self._open.pop(id(trace), None)
        self._changed.pop(id(trace), None)
        self._of_trace.pop((trace.writer_id, trace.trace_id), None)
        for span_id in trace.latest:
            self._of_span.pop((trace.writer_id, span_id), None)
        return _tree(trace)


class Pairs:
    """Pairs starts with ends as they come, for `asynctrack tail`: spans without trees.

    Args:
        at_most: Spans that are kept open; beyond that it drops those that started first.
    """

    def __init__(self, at_most: int = 100_000) -> None:
        self._open: OrderedDict[_Key, Event] = OrderedDict()
        self._at_most = at_most

    def add(self, event: Event) -> Span | None:
        """Take an event; return the span that it ends."""
        kind, _, what = event.event.rpartition("_")
        if event.span_id is None or kind not in _KINDS:
            return None
        key = (event.writer_id, event.span_id)
        if what == "start":
            self._open[key] = event
            if len(self._open) > self._at_most:
                self._open.popitem(last=False)
            return None
        if what not in ("end", "error"):
            return None
        span = _OpenSpan(event.span_id)
        span.start, span.end = self._open.pop(key, None), event
        span.parent_span_id = event.parent_span_id
        if span.parent_span_id is None and span.start is not None:
            span.parent_span_id = span.start.parent_span_id
        return _span(span, (), False, event.trace_id or event.span_id)


def build_traces(events: Iterable[Event], *, linger: int = LINGER) -> Iterator[Trace]:
    """Yield the traces in a stream of events: complete ones as they end, the others at the end.

    Args:
        events: In order.
        linger: How many events a complete trace waits for what comes late.
    """
    builder = TraceBuilder(linger)
    for event in events:
        yield from builder.add(event)
    yield from builder.rest()


def _tree(trace: _OpenTrace) -> Trace:
    """Build the tree, without recursion: it may have any depth, and need not be a tree."""
    below: dict[int, list[_OpenSpan]] = {}
    roots: list[tuple[_OpenSpan, bool]] = []
    for span in trace.spans:
        parent = None if span.parent_span_id is None else trace.latest.get(span.parent_span_id)
        if parent is None or parent is span:
            roots.append((span, span.parent_span_id is not None))
        else:
            below.setdefault(id(parent), []).append(span)
    built: dict[int, Span] = {}
    tops = []
    for top, orphan in roots:
        _build_below(top, orphan, below, built, trace.trace_id)
        tops.append(built[id(top)])
    for span in trace.spans:
        if id(span) not in built:  # parents in a circle: cut at the first
            _build_below(span, True, below, built, trace.trace_id)
            tops.append(built[id(span)])
    return Trace(trace.trace_id, trace.writer_id, tuple(tops))


def _build_below(
    top: _OpenSpan,
    orphan: bool,
    below: Mapping[int, list[_OpenSpan]],
    built: dict[int, Span],
    trace_id: str,
) -> None:
    order: list[_OpenSpan] = []
    seen = {id(top)}
    waiting = [top]
    while waiting:
        span = waiting.pop()
        order.append(span)
        for child in below.get(id(span), ()):
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)
    for span in reversed(order):
        children = tuple(
            built[id(child)]
            for child in below.get(id(span), ())
            if id(child) in built and child is not top
        )
        built[id(span)] = _span(span, children, span is top and orphan, trace_id)


def _span(span: _OpenSpan, children: tuple[Span, ...], orphan: bool, trace_id: str) -> Span:
    start, end = span.start, span.end
    first = start or end or (span.notes[0] if span.notes else None)
    assert first is not None  # a span is made for an event
    # Streams know their inputs only at their end.
    inputs = end.inputs if end is not None and end.inputs is not None else None
    if inputs is None and start is not None:
        inputs = start.inputs
    return Span(
        span_id=span.span_id,
        trace_id=trace_id,
        parent_span_id=span.parent_span_id,
        writer_id=first.writer_id,
        kind=_kind(start, end),
        name=first.name,
        start_unix_nano=None if start is None else start.time_unix_nano,
        end_unix_nano=None if end is None else end.time_unix_nano,
        inputs=inputs,
        outputs=_outputs(end),
        error=_error(end),
        tags=first.tags,
        metadata=first.metadata,
        attributes={**_attributes(start), **_attributes(end)},
        data={**_data(start), **_data(end)},
        notes=tuple(span.notes),
        children=children,
        orphan=orphan,
        spooled=any(event.spooled for event in (start, end, *span.notes) if event is not None),
    )


def _kind(start: Event | None, end: Event | None) -> str:
    event = start or end
    if event is None:
        return "unknown"
    kind = event.event.rpartition("_")[0]
    if kind == "chain":
        given = _data(event).get("run_type")
        return given if isinstance(given, str) else kind
    return kind


def _outputs(end: Event | None) -> Any:
    if end is not None and end.event == "llm_error":
        return _data(end).get("response")
    return None if end is None else end.outputs


def _error(end: Event | None) -> SpanError | None:
    if end is None or not end.event.endswith("_error"):
        return None
    raw = end.error if isinstance(end.error, dict) else {}
    texts = [raw.get(name) for name in ("type", "message", "traceback")]
    kind, message, traceback = (text if isinstance(text, str) else "" for text in texts)
    return SpanError(kind, message, traceback, end.error)


def _attributes(event: Event | None) -> Mapping[str, Any]:
    return {} if event is None else event.attributes


def _data(event: Event | None) -> Mapping[str, Any]:
    return event.data if event is not None and isinstance(event.data, dict) else {}
