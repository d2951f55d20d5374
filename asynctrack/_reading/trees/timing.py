"""Where the time of a trace goes: what each span takes for itself, and which spans decide how long
the whole takes (pure).

Spans come in the order of ``Trace.walk``, parents before children, and a span is named by its place
in it. All ends are starts plus durations: what a clock that nobody sets has measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asynctrack._reading.trees.trace import Trace


@dataclass(frozen=True, slots=True)
class Timed:
    """When a span ran.

    Attributes:
        parent: The place of the span above it; None for a root.
        start: Nanoseconds since 1970; None where its start is not there.
        duration: Seconds; None where that is not known.
        orphan: It is a root only because nobody has seen its parent.
    """

    parent: int | None
    start: int | None
    duration: float | None
    orphan: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the critical path.

    Attributes:
        place: The span that was at work itself: none of its children was.
        start: Nanoseconds since 1970.
        end: Nanoseconds since 1970.
    """

    place: int
    start: int
    end: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.start) / 1e9


def timed(trace: Trace) -> list[Timed]:
    """Return when each span of a trace ran."""
    places: dict[int, int] = {}
    found: list[Timed] = []
    for place, span in enumerate(trace.walk()):
        found.append(Timed(places.get(id(span)), span.start_unix_nano, span.duration, span.orphan))
        places.update((id(child), place) for child in span.children)
    return found


def self_times(spans: Sequence[Timed]) -> list[float | None]:
    """Return the seconds of each span in which none of its children ran.

    None where a span's own duration is not known. A child whose end is not there counts up to the
    end of its parent.
    """
    ends, children = _ends(spans), _children(spans)
    found: list[float | None] = []
    for place, span in enumerate(spans):
        end = ends[place]
        if span.start is None or span.duration is None or end is None:
            found.append(None)
            continue
        left = end - span.start
        covered = span.start
        for first, last in sorted(_ran(spans, ends, children[place])):
            first, last = max(first, covered), min(last, end)
            if last > first:
                left -= last - first
                covered = last
        found.append(left / 1e9)
    return found


def critical_path(spans: Sequence[Timed]) -> list[Part]:
    """Return the stretches that decide how long a trace takes, the first one first.

    Found from its root's end backwards: what ended last was waited for, and before it what had
    ended last when it began. Together they are as long as the root; none where that has not ended.
    """
    root = min(
        (place for place, span in enumerate(spans) if span.parent is None),
        key=lambda place: (spans[place].start is None, spans[place].orphan),
        default=None,
    )
    if root is None:
        return []
    ends, children = _ends(spans), _children(spans)
    start, end = spans[root].start, ends[root]
    if start is None or end is None:
        return []
    parts: list[Part] = []
    # Without recursion, the last stretch first: a span from one time to another, or a part of it.
    waiting: list[tuple[int, int, int, bool]] = [(root, start, end, False)]
    while waiting:
        place, low, high, own = waiting.pop()
        if own:
            parts.append(Part(place, low, high))
            continue
        found: list[tuple[int, int, int, bool]] = []
        latest = sorted(
            ((ends[child] or 0, spans[child].start or 0, child) for child in children[place]),
            reverse=True,
        )
        at = high
        for last, first, child in latest:
            first, last = max(first, low), min(last, at)
            if last <= first:
                continue
            if last < at:
                found.append((place, last, at, True))
            found.append((child, first, last, False))
            at = first
        if low < at:
            found.append((place, low, at, True))
        waiting.extend(reversed(found))
    return parts[::-1]


def critical_seconds(parts: Sequence[Part]) -> dict[int, float]:
    """Return how much of the critical path each span on it takes itself, by places."""
    found: dict[int, int] = {}
    for part in parts:
        found[part.place] = found.get(part.place, 0) + part.end - part.start
    return {place: length / 1e9 for place, length in found.items()}


def _ends(spans: Sequence[Timed]) -> list[int | None]:
    """Return when each span ended; where that is not known, when its parent did."""
    ends: list[int | None] = []
    for span in spans:
        if span.start is None:
            ends.append(None)
        elif span.duration is not None:
            ends.append(span.start + max(0, round(span.duration * 1e9)))
        else:
            above = None if span.parent is None else ends[span.parent]
            ends.append(None if above is None else max(above, span.start))
    return ends


def _children(spans: Sequence[Timed]) -> list[list[int]]:
    """Return the places of each span's children that ran at a time that is known."""
    ends = _ends(spans)
    children: list[list[int]] = [[] for _ in spans]
    for place, span in enumerate(spans):
        if span.parent is not None and span.start is not None and ends[place] is not None:
            children[span.parent].append(place)
    return children


def _ran(
    spans: Sequence[Timed], ends: Sequence[int | None], places: Sequence[int]
) -> list[tuple[int, int]]:
    return [(spans[place].start or 0, ends[place] or 0) for place in places]
