"""Events to Spans and Traces: pair starts with ends, build the trees, keep what does not fit.

A trace is yielded once all its spans have ended and some more events have passed: late events (a
background task of a chain that has ended) still find their parent meanwhile. So memory holds the
open traces and a bounded number of events.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from asynctrack._common.outcome import PARENT_ENDED
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.assemble import SpanEvents, assemble, span_of
from asynctrack._reading.trees.ending import data_of, verdict_on
from asynctrack._reading.trees.pauses import Pauses
from asynctrack._reading.trees.sessions import thread_of
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

LINGER: Final = 2_000
"""Events that pass before a trace is yielded whose root and spans have ended."""
LINGER_WITHOUT_ROOT: Final = 100_000
"""The same for a trace without open spans that is not settled: its root's end is not there, or a
task of it may go on in the background. Dropped events must not keep the rest of their traces in
memory for good."""
LINGER_BYTES: Final = 32 * 1024 * 1024
"""Size of the lines, in bytes, above which traces without open spans wait no longer."""

_KINDS: Final = ("chain", "llm", "chat_model", "tool", "retriever")
_NEITHER: Final = (False, False)
_EVENTS: Final = {
    **{f"{kind}_start": (True, False) for kind in _KINDS},
    **{f"{kind}_{what}": (False, True) for kind in _KINDS for what in ("end", "error")},
}
"""Whether an event starts a span, and whether it ends one."""


class _OpenTrace:
    __slots__ = (
        "cancelled", "ended", "late", "latest", "pending", "rests", "resumes", "size", "spans",
        "thread", "trace_id", "writer_id",
    )  # fmt: skip

    def __init__(self, writer_id: str, trace_id: str) -> None:
        self.writer_id = writer_id
        self.trace_id = trace_id
        self.spans: list[SpanEvents] = []
        self.latest: dict[str, SpanEvents] = {}
        """The span of each id: the last one if an id is used twice."""
        self.pending = 0
        """Spans that have started and not ended; a start comes before all else or not at all."""
        self.ended = False
        """Whether the root has ended."""
        self.cancelled = False
        """Whether it was cancelled then."""
        self.late = 0
        """Spans that may have gone on when their parent ended: their ends may still come."""
        self.rests: bool | None = None
        """Which waiting traces it is among, by ``settled``; None while it has open spans."""
        self.size = 0
        """Of its events, as lines, in bytes."""
        self.thread: str | None = None
        """LangGraph's thread that it is of."""
        self.resumes: str | None = None
        """The trace that waited for it."""

    def events(self) -> Iterator[Event]:
        """Yield its events."""
        for span in self.spans:
            for event in (span.start, span.end, span.gone, *span.notes):
                if event is not None:
                    yield event

    @property
    def settled(self) -> bool:
        """Whether nothing of it is to be expected: its root has ended, and all else with it."""
        return self.ended and (self.late == 0 or self.cancelled)


_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a ``TraceBuilder`` holds, to go on with it in another process.

    Attributes:
        events: Those of the open traces, in an order in which they may have come.
        threads: By writer and trace, the thread that an open trace is of, and what it resumes.
        waiting: By thread, the trace that waits.
    """

    events: tuple[Event, ...] = ()
    threads: Mapping[_Key, tuple[str, str | None]] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)


class TraceBuilder:
    """Puts events into open traces, one by one; ``build_traces`` does it for a whole stream.

    Ids count for one writer: two handlers on a chain record the same spans, and each trace must be
    whole by itself.

    Args:
        linger: How many events a complete trace waits for what comes late.
        snapshot: What another one held, to go on from there.
    """

    def __init__(self, linger: int, snapshot: Snapshot | None = None) -> None:
        self._linger = {True: linger, False: max(linger, LINGER_WITHOUT_ROOT)}
        self._of_span: dict[_Key, _OpenTrace] = {}
        self._of_trace: dict[_Key, _OpenTrace] = {}
        # Those without open spans, by whether they are settled; the first is due first.
        self._resting: dict[bool, OrderedDict[int, tuple[_OpenTrace, int]]]
        self._resting = {True: OrderedDict(), False: OrderedDict()}
        self._open: dict[int, _OpenTrace] = {}
        self._resting_bytes = 0
        self._changed: dict[int, _OpenTrace] = {}
        self._seen = 0
        self._pauses = Pauses()
        self._known: Mapping[_Key, tuple[str, str | None]] | None = None
        if snapshot is not None:
            self._known = snapshot.threads
            for event in snapshot.events:
                deque(self.add(event), maxlen=0)  # none is due meanwhile
            self._known = None
            self._pauses = Pauses(snapshot.waiting)

    def snapshot(self) -> Snapshot:
        """Return what it holds."""
        events = [event for trace in self._open.values() for event in trace.events()]
        latest: dict[str, int] = {}
        ordered = []
        # As ``merged_events`` gives them: a writer's time is the latest that it has shown.
        for event in sorted(events, key=lambda one: (one.writer_id, one.seq)):
            time = max(latest.get(event.writer_id, 0), event.time_unix_nano)
            latest[event.writer_id] = time
            ordered.append((time, event))
        ordered.sort(key=lambda pair: pair[0])
        threads = {
            (trace.writer_id, trace.trace_id): (trace.thread, trace.resumes)
            for trace in self._open.values()
            if trace.thread is not None
        }
        return Snapshot(tuple(event for _, event in ordered), threads, self._pauses.waiting)

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
        span = None if trace is None else trace.latest[span_id]
        if starts and trace is not None and span is not None and span.start is not None:
            if span.pending and _same(span.start, event):
                return  # a handler that was given twice
            if event.parent_span_id not in trace.latest:
                # Another call. What is open of the first one still finds its trace.
                trace = self._new_trace(event.writer_id, span_id)
            span = None
        if trace is None:
            trace = self._trace_for(event, span_id)
            span = trace.latest.get(span_id)
        if span is None:
            span = SpanEvents(span_id, self._seen)
            trace.spans.append(span)
            trace.latest[span_id] = span
            self._of_span[key] = trace
        parent_span_id = raw.get("parent_span_id")
        if parent_span_id not in (None, span_id):
            span.parent_span_id = parent_span_id
        if starts:
            if trace.thread is None:
                self._note_thread(trace, event)
            span.start = event
            span.pending = span.end is None
            trace.pending += span.pending
        elif ends and span.end is None:
            span.end = event
            trace.pending -= span.pending
            span.pending = False
            trace.late -= _may_go_on(span.gone)
            if span.parent_span_id is None or span_id == trace.trace_id:
                self._end(trace, span)
        elif raw["event"] == "span_abandoned" and span.gone is None:
            span.gone = event
            trace.late += span.end is None and _may_go_on(event)
            if data_of(event).get("reason") != "too_many":  # its end may well come
                trace.pending -= span.pending
                span.pending = False
        elif not ends or not _same(span.end, event):
            span.notes.append(event)
        self._changed[id(trace)] = trace
        self._wake(trace)
        trace.size += event.size
        if trace.pending == 0:
            self._rest(trace)
        if self._known is not None:
            return
        for resting in self._resting.values():
            while resting:
                oldest, due = next(iter(resting.values()))
                if due > self._seen and self._resting_bytes <= LINGER_BYTES:
                    break
                yield self._finish(oldest)

    def rest(self, writers: Container[str] | None = None) -> Iterator[Trace]:
        """Yield all traces that are still there, in the order in which they began.

        Args:
            writers: Only those of these writers; None yields all.
        """
        for trace in list(self._open.values()):
            if writers is None or trace.writer_id in writers:
                yield self._finish(trace)

    @property
    def seen(self) -> int:
        """How many events of spans were taken."""
        return self._seen

    def rested(self, since: int, *, settled: bool) -> Iterator[Trace]:
        """Yield traces without open spans that got nothing after so many events were seen.

        Args:
            since: As ``seen`` was then.
            settled: Those of which nothing is to be expected; else the others.
        """
        resting = self._resting[settled]
        while resting:
            oldest, due = next(iter(resting.values()))
            if due - self._linger[settled] > since:
                return
            yield self._finish(oldest)

    def has(self, writer_id: str, trace_id: str) -> bool:
        """Return whether a trace is there."""
        return (writer_id, trace_id) in self._of_trace

    def open_bytes(self) -> int:
        """Return the size of all that is there, as lines, in bytes."""
        return sum(trace.size for trace in self._open.values())

    def drop_largest(self) -> str:
        """Forget the largest trace that is there; return its id."""
        largest = max(self._open.values(), key=lambda trace: trace.size)
        self._finish(largest)
        return largest.trace_id

    def open(self) -> list[Trace]:
        """Return the traces that were not yielded yet, as they are now; they stay."""
        return [self._built(trace) for trace in self._open.values()]

    def changed(self) -> list[Trace]:
        """Return those of ``open`` that got events since the last call."""
        changed, self._changed = self._changed, {}
        return [self._built(trace) for trace in changed.values()]

    def _trace_for(self, event: Event, span_id: str) -> _OpenTrace:
        # By the parent first: a writer that has forgotten the trace uses the parent's id for it.
        trace = None
        if event.parent_span_id is not None:
            trace = self._of_span.get((event.writer_id, event.parent_span_id))
        trace_id = event.trace_id or span_id
        if trace is None:
            trace = self._of_trace.get((event.writer_id, trace_id))
        return trace or self._new_trace(event.writer_id, trace_id)

    def _new_trace(self, writer_id: str, trace_id: str) -> _OpenTrace:
        trace = self._of_trace[(writer_id, trace_id)] = _OpenTrace(writer_id, trace_id)
        self._open[id(trace)] = trace
        return trace

    def _note_thread(self, trace: _OpenTrace, start: Event) -> None:
        thread = thread_of(start.metadata)
        if thread is None:
            return
        trace.thread = thread
        if self._known is None:
            trace.resumes = self._pauses.begin(thread, start.inputs)
        else:
            _, trace.resumes = self._known.get((trace.writer_id, trace.trace_id), ("", None))

    def _end(self, trace: _OpenTrace, root: SpanEvents) -> None:
        trace.ended = True
        trace.cancelled = verdict_on(root.end, None)[0] == "cancelled"
        if trace.thread is not None:
            self._pauses.end(trace.thread, self._built(trace))

    def _built(self, trace: _OpenTrace) -> Trace:
        """Return a trace as it is now."""
        built = assemble(trace.trace_id, trace.writer_id, trace.spans, trace.latest)
        return built if trace.resumes is None else replace(built, resumes=trace.resumes)

    def _rest(self, trace: _OpenTrace) -> None:
        due = self._seen + self._linger[trace.settled]
        trace.rests = trace.settled
        self._resting[trace.rests][id(trace)] = (trace, due)
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
        key = (trace.writer_id, trace.trace_id)
        if self._of_trace.get(key) is trace:
            del self._of_trace[key]
        for span_id in trace.latest:
            key = (trace.writer_id, span_id)
            if self._of_span.get(key) is trace:
                del self._of_span[key]
        return self._built(trace)


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
        if event.span_id is None:
            return None
        key = (event.writer_id, event.span_id)
        span = SpanEvents(event.span_id)
        if kind in _KINDS and what == "start":
            self._open[key] = event
            if len(self._open) > self._at_most:
                self._open.popitem(last=False)
            return None
        if kind in _KINDS and what in ("end", "error"):
            span.end = event
        elif kind == "span" and data_of(event).get("reason") == PARENT_ENDED:
            span.gone = event
        else:
            return None
        span.start = self._open.pop(key, None)
        span.parent_span_id = event.parent_span_id
        if span.parent_span_id is None and span.start is not None:
            span.parent_span_id = span.start.parent_span_id
        return span_of(span, event.trace_id or event.span_id)


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


def _same(one: Event | None, other: Event) -> bool:
    """Return whether two events say the same, their numbers and times aside."""
    if one is None:
        return False
    first, second = dict(one.raw), dict(other.raw)
    for name in ("seq", "time_unix_nano", "duration"):
        first.pop(name, None)
        second.pop(name, None)
    return first == second


def _may_go_on(gone: Event | None) -> bool:
    """Return whether a span may go on in the background that its parent's end has abandoned."""
    return gone is not None and data_of(gone).get("reason") == PARENT_ENDED
