"""Artifacts of one writer to traces that have ended: decoded in order, bounded in memory.

A trace has ended when its root has, and with it all else; some seconds more wait for what comes
late. What comes later still is sent by itself: it names its trace, and the receiver puts it there.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

from asynctrack._common.artifact import Artifact
from asynctrack._format import ArtifactName
from asynctrack._reading.decoding.events import read_events
from asynctrack._reading.decoding.feedback import Feedback, feedback_of
from asynctrack._reading.decoding.values import Texts, Values
from asynctrack._reading.trees.build import LINGER, TraceBuilder
from asynctrack._reading.trees.trace import Trace

GRACE: Final = 2.0
"""Seconds that an ended trace waits for late events."""
LONG_GRACE: Final = 60.0
"""The same for one without open spans whose end is not there, or that goes on in the background."""
GAP: Final = 5.0
"""Seconds that events wait for those before them, which are read from disk at the same time."""
OPEN_BYTES: Final = 32 * 1024 * 1024
"""Size of the lines of all traces that have not ended, in bytes; the largest is dropped beyond."""
LARGE: Final = 10_000
"""Dropped traces whose further events are known to be theirs."""


class Assembling:
    """Assembles the traces of one writer. Touched by one thread.

    Args:
        writer_id: Whose events they are.
    """

    def __init__(self, writer_id: str) -> None:
        self._writer_id = writer_id
        self._builder = TraceBuilder(LINGER)
        self._texts = Texts()
        self._early: dict[int, tuple[Artifact, float]] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._long_marks: deque[tuple[float, int]] = deque()
        self._large: OrderedDict[str, None] = OrderedDict()
        self.through = 0
        """The last event that was read."""
        self.too_large = 0
        """Traces that were dropped because of their size."""

    def take(self, artifact: Artifact, now: float) -> Iterator[Trace | Feedback]:
        """Take an artifact; yield traces that are due, and the feedback that is in it.

        Args:
            artifact: What is packed in it follows what came before, soon or later.
            now: The monotonic clock, in seconds.
        """
        self._early[artifact.first_seq] = artifact, now
        yield from self._read_in_order(now)

    def due(self, now: float, *, hurried: bool = False) -> Iterator[Trace | Feedback]:
        """Yield the traces that have waited long enough, and feedback that was read with them.

        Args:
            now: The monotonic clock, in seconds.
            hurried: Whether those that have ended wait for nothing.
        """
        if self._early and min(at for _, at in self._early.values()) + GAP <= now:
            self.through = min(self._early) - 1  # what is before it does not come
            yield from self._read_in_order(now)
        for marks, grace, settled in (
            (self._marks, 0.0 if hurried else GRACE, True),
            (self._long_marks, LONG_GRACE, False),
        ):
            since = None
            while marks and marks[0][0] + grace <= now:
                since = marks.popleft()[1]
            if since is not None:
                yield from self._builder.rested(since, settled=settled)

    def wait(self, now: float) -> float | None:
        """Return the seconds until something may be due; None where nothing is."""
        times = [at + GAP for _, at in self._early.values()]
        times += [marks[0][0] + grace
                  for marks, grace in ((self._marks, GRACE), (self._long_marks, LONG_GRACE))
                  if marks]  # fmt: skip
        return max(0.0, min(times) - now) if times else None

    def is_open(self, trace_id: str) -> bool:
        """Tell whether a trace has begun and was not yielded."""
        return self._builder.has(self._writer_id, trace_id)

    def rest(self, now: float) -> Iterator[Trace | Feedback]:
        """Yield all that is there: nothing comes any more."""
        while self._early:
            self.through = min(self._early) - 1
            yield from self._read_in_order(now)
        yield from self._builder.rest()

    def _read_in_order(self, now: float) -> Iterator[Trace | Feedback]:
        while (found := self._early.pop(self.through + 1, None)) is not None:
            artifact = found[0]
            yield from self._read(artifact)
            self.through = artifact.last_seq
            for marks in (self._marks, self._long_marks):
                marks.append((now, self._builder.seen))

    def _read(self, artifact: Artifact) -> Iterator[Trace | Feedback]:
        place = ArtifactName(self._writer_id, artifact.first_seq, artifact.last_seq, "")
        events = read_events(
            artifact.content, artifact.name, place, lambda _: None, values=Values(self._texts)
        )
        for event in events:
            if (feedback := feedback_of(event)) is not None:
                yield feedback
                continue
            if self._large and event.trace_id in self._large:
                continue
            yield from self._builder.add(event)
        while self._builder.open_bytes() > OPEN_BYTES:
            trace_id = self._builder.drop_largest()
            self._large[trace_id] = None
            if len(self._large) > LARGE:
                self._large.popitem(last=False)
            self.too_large += 1
