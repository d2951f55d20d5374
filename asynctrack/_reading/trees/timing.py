"""Where the time of a trace goes: which spans decide how long the whole takes (pure). What each
takes for itself is ``Span.self_time``.

A span runs from its start for as long as it took, which a clock has measured that nobody sets. One
of which either is not known counts for nothing. The critical path names spans by their places in
``Trace.walk``, parents before children.
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


def timed(trace: Trace) -> list[Timed]:
    """Return when each span of a trace ran."""
    places: dict[int, int] = {}
    found: list[Timed] = []
    for place, span in enumerate(trace.walk()):
        found.append(Timed(places.get(id(span)), span.start_unix_nano, span.duration, span.orphan))
        places.update((id(child), place) for child in span.children)
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
    ends = _ends(spans)
    children = _children(spans, ends)
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
    """Return when each span ended; None where its start or its duration is not known."""
    return [
        None
        if span.start is None or span.duration is None
        else span.start + max(0, round(span.duration * 1e9))
        for span in spans
    ]


def _children(spans: Sequence[Timed], ends: Sequence[int | None]) -> list[list[int]]:
    """Return the places of each span's children that ran at a time that is known."""
    children: list[list[int]] = [[] for _ in spans]
    for place, span in enumerate(spans):
        if span.parent is not None and ends[place] is not None:
            children[span.parent].append(place)
    return children
