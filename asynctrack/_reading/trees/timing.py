"""Where the time of a trace goes (pure)."""

from __future__ import annotations

from asynctrack._reading.trees.span import Span


def self_time(span: Span) -> float | None:
    """Return the seconds in which a span ran and none of its children did.

    None where it is not known how long it took. A child runs from its start for as long as it
    took; what it does after its parent's end does not count.
    """
    total, start = span.duration, span.start_unix_nano
    if total is None or not span.children or start is None:
        return total
    covered = 0.0
    until = 0.0
    ran = sorted(
        ((child.start_unix_nano - start) / 1e9, child.duration)
        for child in span.children
        if child.start_unix_nano is not None and child.duration is not None
    )
    for begin, took in ran:
        end = min(begin + took, total)
        begin = max(begin, until)
        if end > begin:
            covered += end - begin
            until = end
    return max(0.0, total - covered)
