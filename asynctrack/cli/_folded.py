"""Reads traces one by one: for ``trace``, and for ``show`` where DuckDB is not installed."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ._progress import Advance

if TYPE_CHECKING:
    from asynctrack._reading.answers.numbers import Remarkable, TraceLine
    from asynctrack._reading.decoding.events import Event
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.trees.trace import Trace


class Watched:
    """The traces worth a look, of a stream of them: a bounded number.

    Args:
        at_most: How many of each.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._slowest: list[tuple[float, int, TraceLine]] = []
        self._failed: deque[TraceLine] = deque(maxlen=at_most)
        self._incomplete: deque[TraceLine] = deque(maxlen=at_most)

    def watch(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        """Pass traces on, and remember those worth a look."""
        from asynctrack._reading.answers.numbers import trace_line

        for seen, trace in enumerate(traces):
            line = trace_line(trace)
            if line.duration is not None:
                heapq.heappush(self._slowest, (line.duration, -seen, line))
                if len(self._slowest) > self._at_most:
                    heapq.heappop(self._slowest)
            if line.outcome == "error":
                self._failed.append(line)
            elif not line.complete:
                self._incomplete.append(line)
            yield trace

    @property
    def remarkable(self) -> Remarkable:
        """What was worth a look."""
        from asynctrack._reading.answers.numbers import Remarkable

        slowest = tuple(line for _, _, line in sorted(self._slowest, reverse=True))
        return Remarkable(slowest, tuple(self._failed), tuple(self._incomplete))


def traces_with_progress(recorded: RecordedRun, advance: Advance) -> Iterator[Trace]:
    """Yield a Run's traces, and show how many events were read."""
    from asynctrack._reading.trees.build import build_traces

    return build_traces(_counted(recorded.events(), advance))


def expected_events(recorded: RecordedRun) -> int | None:
    """Return how many events the manifests list; None without manifests."""
    return recorded.manifest.accepted or None


def _counted(events: Iterable[Event], advance: Advance) -> Iterator[Event]:
    for event in events:
        advance(1)
        yield event
