"""Where the time of a trace goes: self times, and the critical path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.build import build_traces
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.timing import (
    Part,
    Timed,
    critical_path,
    critical_seconds,
    timed,
)
from tests.reading.making import START, event

SECOND = 10**9


def spans(*given: tuple[int | None, float | None, float | None]) -> list[Timed]:
    """Spans by their parents, starts and durations, both in seconds."""
    return [
        Timed(parent, None if start is None else START + round(start * SECOND), duration)
        for parent, start, duration in given
    ]


def self_times(given: list[Timed]) -> list[float | None]:
    """The self times of such spans."""
    built: dict[int, Span] = {}
    for place in reversed(range(len(given))):
        below = [n for n, one in enumerate(given) if one.parent == place]
        built[place] = Span(
            span_id=str(place), trace_id="0", parent_span_id=None, writer_id="w", position=place,
            kind="chain", name=None, outcome="ok", cause=None, start_unix_nano=given[place].start,
            end_unix_nano=None, duration=given[place].duration, inputs=None, outputs=None,
            exception=None, tags=(), metadata={}, attributes={}, data={}, notes=(),
            children=tuple(built[n] for n in below), orphan=False,
        )  # fmt: skip
    return [built[place].self_time for place in range(len(given))]


def path(given: list[Timed]) -> list[tuple[int, float, float]]:
    """The critical path: places with their seconds from the start."""
    return [
        (one.place, (one.start - START) / SECOND, (one.end - START) / SECOND)
        for one in critical_path(given)
    ]


@st.composite
def trees(draw: st.DrawFn, *, ended: bool = False) -> list[Timed]:
    """Any trees, as clocks may have it: children before their parents, or long after them."""
    count = draw(st.integers(1, 12))
    found = []
    for place in range(count):
        start = draw(st.integers(0, 30) if ended else st.none() | st.integers(0, 30))
        duration = draw(st.integers(0, 20) if ended else st.none() | st.integers(0, 20))
        parent = None if not place else draw(st.integers(0, place - 1))
        if not ended and place and draw(st.integers(0, 9)) == 0:
            parent = None
        at = None if start is None else START + start * SECOND
        found.append(Timed(parent, at, duration))
    return found


def test_a_chain_that_waits() -> None:
    """What a parent does before, between and after its children is its own."""
    given = spans((None, 0, 10), (0, 1, 3), (0, 6, 2))
    assert self_times(given) == [5, 3, 2]
    assert path(given) == [(0, 0, 1), (1, 1, 4), (0, 4, 6), (2, 6, 8), (0, 8, 10)]


def test_children_side_by_side() -> None:
    """Time in which several children run is taken off once; the one that ended last decides."""
    given = spans((None, 0, 10), (0, 1, 4), (0, 2, 7), (0, 3, 1))
    assert self_times(given) == [2, 4, 7, 1]
    assert path(given) == [(0, 0, 1), (1, 1, 2), (2, 2, 9), (0, 9, 10)]
    assert critical_seconds(critical_path(given)) == {0: 2, 1: 1, 2: 7}


def test_a_child_that_outlives_its_parent() -> None:
    """What runs on in the background counts up to its parent's end, and wholly for itself."""
    given = spans((None, 0, 4), (0, 3, 10))
    assert self_times(given) == [3, 10]
    assert path(given) == [(0, 0, 3), (1, 3, 4)]


def test_a_child_whose_end_is_not_there() -> None:
    """Nobody knows how long it took: it counts for nothing."""
    given = spans((None, 0, 4), (0, 1, None))
    assert self_times(given) == [4, None]
    assert path(given) == [(0, 0, 4)]


def test_a_trace_that_has_not_ended() -> None:
    """Nothing has decided yet how long it takes."""
    given = spans((None, 0, None), (0, 1, 2))
    assert self_times(given) == [None, 2]
    assert critical_path(given) == []
    assert critical_path([]) == []


def test_the_root_decides_not_an_orphan() -> None:
    """The path is that of the trace's root, wherever among the roots that is."""
    orphan = Timed(None, START, 100, orphan=True)
    assert critical_path([orphan, Timed(None, START, 1)]) == [Part(1, START, START + SECOND)]


def test_very_deep() -> None:
    """A tree of any depth is walked without recursion."""
    given = [Timed(None if not n else n - 1, START, 1.0) for n in range(5_000)]
    assert critical_path(given) == [Part(4_999, START, START + SECOND)]


@given(trees())
def test_self_times_are_never_negative(given: list[Timed]) -> None:
    """No span takes less than nothing for itself, or more than it took."""
    for span, own in zip(given, self_times(given), strict=True):
        assert (own is None) == (span.duration is None)
        assert own is None or 0 <= own <= (span.duration or 0)


@given(trees(ended=True))
def test_the_critical_path_is_as_long_as_the_root(given: list[Timed]) -> None:
    """Its parts follow each other from the root's start to its end; none is empty."""
    root = given[0]
    assert root.start is not None and root.duration is not None
    at = root.start
    for part in critical_path(given):
        assert part.start == at < part.end
        at = part.end
    assert at == root.start + round(root.duration * 1e9)


@given(trees(ended=True))
def test_parts_are_time_of_their_own(given: list[Timed]) -> None:
    """Each part lies in its span, and no span has more of the path than it took for itself."""
    parts = critical_path(given)
    for part in parts:
        span = given[part.place]
        assert span.start is not None and span.duration is not None
        assert span.start <= part.start < part.end <= span.start + round(span.duration * 1e9)
    own = self_times(given)
    for place, seconds in critical_seconds(parts).items():
        assert seconds <= (own[place] or 0) + 1e-6


def test_of_a_trace() -> None:
    """Spans of a trace stand in the order in which it is walked."""
    events = [
        event(1, kind="chain_start", span_id="root", time=START),
        event(2, kind="chain_start", span_id="a", parent_span_id="root", time=START + SECOND),
        event(3, kind="tool_start", span_id="b", parent_span_id="a", time=START + 2 * SECOND),
        event(4, kind="tool_end", span_id="b", parent_span_id="a", time=START + 5 * SECOND),
        event(5, kind="chain_end", span_id="a", parent_span_id="root", time=START + 6 * SECOND),
        event(6, kind="chain_end", span_id="root", time=START + 8 * SECOND),
    ]  # fmt: skip
    (trace,) = build_traces(Event({"trace_id": "root", **one}) for one in events)
    given = timed(trace)
    assert [one.parent for one in given] == [None, 0, 1]
    assert [span.self_time for span in trace.walk()] == [3, 2, 3]
    assert [one.place for one in critical_path(given)] == [0, 1, 2, 1, 0]
