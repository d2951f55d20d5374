"""Reads traces one by one: for ``trace``, and for ``show`` where DuckDB is not installed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ._progress import Advance

if TYPE_CHECKING:
    from asynctrack._reading.answers.numbers import Remarkable, TraceLine
    from asynctrack._reading.decoding.events import Event
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.trees.trace import Trace

    _Kept = tuple[float, int, int, TraceLine]


class Watched:
    """The traces worth a look, of a stream of them: a bounded number.

    Args:
        at_most: How many of each.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._slowest: list[_Kept] = []
        self._failed: list[_Kept] = []
        self._incomplete: list[_Kept] = []

    def watch(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        """Pass traces on, and remember those worth a look."""
        from asynctrack._reading.answers.numbers import trace_line

        for seen, trace in enumerate(traces):
            line = trace_line(trace)
            began = line.start_unix_nano or 0
            if line.duration is not None:
                self._keep(self._slowest, (line.duration, -began, -seen, line))
            if line.outcome == "error":
                self._keep(self._failed, (began, 0, seen, line))
            elif not line.complete:
                self._keep(self._incomplete, (began, 0, seen, line))
            yield trace

    @property
    def remarkable(self) -> Remarkable:
        """What was worth a look."""
        from asynctrack._reading.answers.numbers import Remarkable

        slowest, failed, incomplete = (
            tuple(kept[-1] for kept in sorted(heap))
            for heap in (self._slowest, self._failed, self._incomplete)
        )
        return Remarkable(slowest[::-1], failed, incomplete)

    def _keep(self, heap: list[_Kept], one: _Kept) -> None:
        heapq.heappush(heap, one)
        if len(heap) > self._at_most:
            heapq.heappop(heap)


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
