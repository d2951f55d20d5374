"""One Run on its way to the pages: what is delivered is indexed; what comes later becomes rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from asynctrack._reading.index.columns import Row, feedback_row, rows_of
from asynctrack._reading.index.filler import TRACES, Filler
from asynctrack._reading.index.news import FRESH
from asynctrack._reading.sources.spool import Spool
from asynctrack._reading.trees.trace import Trace

from ._index import Index
from ._progress import RunState

BATCH_SPANS: Final = 20_000
"""Spans that are written together at most; fewer at the end of a slice."""
OPEN_SHARE: Final = 1.5
"""Traces that go on are written again after so many times the time that it took last, ..."""
LONG: Final = 0.25
"""... where that was more than so many seconds."""


class Feed:
    """Fills the index from one Run.

    Args:
        state: What is known of the Run; kept up to date.
        index: Where to.
        spool: This machine's spool; empty reads delivered events only.
        clock: Monotonic, in seconds.
        wall: Wall clock, in nanoseconds.
    """

    def __init__(
        self,
        state: RunState,
        index: Index,
        spool: Spool,
        clock: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self.state = state
        self.looked = -1.0
        self._index = index
        self._clock = clock
        self._wall = wall
        self._folder = index.folder(state.found)
        self._filler = Filler(
            self._folder, state.found, TRACES, spool, state.report, set_aside=True, clock=clock
        )
        self._filled = False
        self._builder = self._filler.builder
        self._of = (state.experiment, state.name)
        state.number = self._filler.state.run
        self._numbers: dict[tuple[str, str], int] = {}
        self._written: set[int] = set()
        self._spooled: dict[int, tuple[str, int]] = {}
        self._begun = 0
        self._until = 0.0
        self._steps: Iterator[None] | None = None
        self._traces: list[Row] = []
        self._spans: list[Row] = []
        self._replaced: list[int] = []
        self._feedback: list[Row] = []
        self._pending = 0
        self._next_open = 0.0
        self._owed = False

    @property
    def busy(self) -> bool:
        """Whether it is in the middle of reading."""
        return self._steps is not None

    def work(self, until: float) -> None:
        """Look for new events, or go on reading them, until a time."""
        self._until = until
        if self._steps is None:
            if not self._filled:
                self._steps = self._fill()
            elif self._look():
                self._steps = self._read()
            elif self._owed:
                self._show_open()
        if self._steps is not None and next(self._steps, self) is self:
            self._steps = None

    def failed(self, reason: str) -> None:
        """Note why it cannot be read; the indexer tries again."""
        self._steps = None
        self.looked = self._clock()
        if self.state.error != reason:
            self.state.error = reason
            self.state.changed()

    def _fill(self) -> Iterator[None]:
        """Bring the index up to date, then read the rest."""
        state, filler = self.state, self._filler
        steps = filler.fill(wait=False)
        while True:
            try:
                events = next(steps)
            except StopIteration as ended:
                self._filled = ended.value
                break
            state.phase = "reading"
            state.events += events
            state.total = filler.expected
            state.changed()
            if self._clock() >= self._until:
                yield
        self.looked = self._clock()
        if not self._filled:
            return  # another process indexes it
        self._builder = filler.builder
        self._begun = filler.state.traces
        self._index.add(self._folder, filler.state)
        state.number, state.events, state.traces = filler.state.run, filler.events, self._begun
        state.phase = "reading"
        self._look()
        yield from self._read()

    def _look(self) -> bool:
        """Look at the Run's folder; return whether there are new events."""
        state, news = self.state, self._filler.news
        look = news.look()
        self.looked = self._clock()
        fresh = self._wall() - look.updated_unix_nano < FRESH
        live = look.alive or (not look.closed and fresh)
        said = (news.parameters, news.metrics, news.sampling)
        before = (
            *(state.closed, state.live, state.spooled, state.error),
            *(state.parameters, state.metrics, state.sampling),
        )
        now = (look.closed, live, look.spooled, None, *said)
        if before != now:
            state.closed, state.live, state.spooled, state.error = now[:4]
            state.parameters, state.metrics, state.sampling = said
            state.changed()
        self._settle()
        state.total = state.events + look.events + look.waiting
        return look.events > 0

    def _read(self) -> Iterator[None]:
        with closing(self._filler.news.events()) as events:
            for n, event in enumerate(events):
                self._pending += 1
                if event.event == "feedback":
                    self._feedback.append(feedback_row(self._of, event))
                for trace in self._builder.add(event):
                    self._take(trace, ended=True)
                if n % 64 == 0 and self._clock() >= self._until:
                    if self.state.phase == "ready":
                        self._show_open()
                    self._write()
                    yield
                elif len(self._spans) >= BATCH_SPANS:
                    self._write()
        self._show_open()
        self._write()
        self.state.phase = "ready"
        self.state.changed()
        self.looked = self._clock()

    def _show_open(self) -> None:
        """Write the traces that go on, as they are now; large ones less often."""
        began = self._clock()
        self._owed = began < self._next_open
        if self._owed:
            return
        for trace in self._builder.changed():
            self._take(trace, ended=False)
        self._write()
        took = self._clock() - began
        self._next_open = self._clock() + (OPEN_SHARE * took if took > LONG else 0.0)

    def _take(self, trace: Trace, *, ended: bool) -> None:
        key = (trace.writer_id, trace.trace_id)
        number = self._numbers.get(key)
        if number is None:
            self._begun += 1
            number = self._numbers[key] = self._filler.state.number(self._begun)
        if ended:  # the same ids may name another trace later
            del self._numbers[key]
        if number in self._written:
            self._replaced.append(number)
        spooled = False
        if trace.spooled:
            until = self._filler.news.spooled_to(trace.writer_id)
            spooled = not self._filler.news.delivered(trace.writer_id, until)
        if spooled:
            self._spooled[number] = trace.writer_id, until
        row, spans = rows_of(self._of, self.state.number, number, trace, spooled=spooled)
        self._traces.append(row)
        self._spans += spans
        if ended:
            self._written.discard(number)
        else:
            self._written.add(number)

    def _settle(self) -> None:
        """Remove the mark from traces that are delivered by now."""
        settled = [
            number
            for number, (writer_id, until) in self._spooled.items()
            if self._filler.news.delivered(writer_id, until)
        ]
        if settled:
            self._index.delivered(settled)
            for number in settled:
                del self._spooled[number]
            self.state.changed()

    def _write(self) -> None:
        state = self.state
        if not (self._traces or self._pending):
            return
        if self._traces:
            self._index.write(self._traces, self._spans, self._replaced)
            self._traces, self._spans, self._replaced = [], [], []
        if self._feedback:
            self._index.write_feedback(self._feedback)
            self._feedback = []
        state.events += self._pending
        self._pending = 0
        state.total = max(state.total, state.events)
        state.traces = self._begun
        state.changed()
