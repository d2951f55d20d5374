"""One Run on its way into the index: new events become traces, and traces become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from asynctrack._reading.index.news import FRESH, News
from asynctrack._reading.trees.build import LINGER, TraceBuilder
from asynctrack._reading.trees.trace import Trace

from ._index import Index
from ._progress import RunState
from ._rows import Cost, Row, rows_of

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
        news: What is new in it.
        index: The index.
        cost_of: What a model call cost.
        clock: Monotonic, in seconds.
        wall: Wall clock, in nanoseconds.
    """

    def __init__(
        self,
        state: RunState,
        news: News,
        index: Index,
        cost_of: Cost,
        clock: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self.state = state
        self.looked = -1.0
        self._index = index
        self._cost_of = cost_of
        self._clock = clock
        self._wall = wall
        self._news = news
        self._builder = TraceBuilder(LINGER)
        self._numbers: dict[tuple[str, str], int] = {}
        self._written: set[int] = set()
        self._spooled: dict[int, tuple[str, int]] = {}
        self._begun = 0
        self._until = 0.0
        self._steps: Iterator[None] | None = None
        self._traces: list[Row] = []
        self._spans: list[Row] = []
        self._replaced: list[int] = []
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
            self._look()
            if self._steps is None and self._owed:
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

    def _look(self) -> None:
        state = self.state
        look = self._news.look()
        self.looked = self._clock()
        fresh = self._wall() - look.updated_unix_nano < FRESH
        live = look.alive or (not look.closed and fresh)
        parameters, metrics = self._news.parameters, self._news.metrics
        before = (
            *(state.closed, state.live, state.spooled, state.error),
            *(state.parameters, state.metrics),
        )
        now = (look.closed, live, look.spooled, None, parameters, metrics)
        if before != now or state.phase == "waiting":
            state.closed, state.live, state.spooled, state.error = now[:4]
            state.parameters, state.metrics = parameters, metrics
            state.changed()
        self._settle()
        state.total = state.events + look.events + look.waiting
        if look.events:
            self._steps = self._read()
        if state.phase == "waiting":
            state.phase = "reading" if look.events else "ready"

    def _read(self) -> Iterator[None]:
        with closing(self._news.events()) as events:
            for n, event in enumerate(events):
                self._pending += 1
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
            number = self._numbers[key] = (self.state.number << 40) + self._begun
        if ended:  # the same ids may name another trace later
            del self._numbers[key]
        if number in self._written:
            self._replaced.append(number)
        spooled = False
        if trace.spooled:
            until = self._news.spooled_to(trace.writer_id)
            spooled = not self._news.delivered(trace.writer_id, until)
        if spooled:
            self._spooled[number] = trace.writer_id, until
        row, spans = rows_of(self.state.number, number, trace, self._cost_of, spooled=spooled)
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
            if self._news.delivered(writer_id, until)
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
        state.events += self._pending
        self._pending = 0
        state.total = max(state.total, state.events)
        state.traces = self._begun
        state.changed()
