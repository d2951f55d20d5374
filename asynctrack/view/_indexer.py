"""The background thread that fills the index: every Run once, and what is new in those that grow.

It works in slices of a fraction of a second, so that the Run somebody looks at is read first, and
rests while nobody looks: listing a bucket is not free.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from asynctrack._errors import AsynctrackError
from asynctrack._open import Found
from asynctrack._span import Trace
from asynctrack._trace import LINGER, TraceBuilder

from ._index import Index
from ._news import FRESH, News
from ._progress import RunState, run_id
from ._rows import Cost, Row, rows_of

logger = logging.getLogger("asynctrack")

SLICE: Final = 0.4
"""Seconds of reading before it is decided anew what to read."""
BATCH_SPANS: Final = 20_000
"""Spans that are written together at the most; fewer when a slice is over."""
WATCHED: Final = 10.0
"""Seconds after a page's last question during which somebody is taken to look at it."""
EVERY: Final = 0.6
"""Seconds from one look at a Run that somebody looks at to the next."""
EVERY_OTHER: Final = 5.0
"""The same for other Runs that are not closed, and for new Runs."""
EVERY_CLOSED: Final = 30.0
"""The same for Runs whose writers have all ended."""


class Indexer:
    """Fills the index from Runs.

    Args:
        index: The index.
        locate: Finds the Runs to show; called again and again, for new ones.
        cost_of: What a model call cost.
        spool_dir: This machine's spool; None reads delivered events only.
        clock: Monotonic, in seconds.
        wall: Wall clock, in nanoseconds.
    """

    def __init__(
        self,
        index: Index,
        locate: Callable[[], list[Found]],
        cost_of: Cost,
        spool_dir: Path | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._locate = locate
        self._cost_of = cost_of
        self._spool_dir = spool_dir
        self._clock = clock
        self._wall = wall
        self._feeds: list[_Feed] = []
        self._located = 0.0
        self._looked = clock()
        self._focus: str | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asynctrack-view", daemon=True)

    @property
    def runs(self) -> list[RunState]:
        """All Runs that have been found, in the order in which they were."""
        return [feed.state for feed in self._feeds]

    def find(self, id: str) -> RunState | None:  # noqa: A002  # its name in links
        """Return a Run by its name in links."""
        return next((feed.state for feed in self._feeds if feed.state.id == id), None)

    def start(self, found: list[Found]) -> None:
        """Start the thread.

        Args:
            found: The Runs found so far.
        """
        self._add(found)
        self._located = self._clock()
        self._thread.start()

    def watched(self, id: str | None) -> None:  # noqa: A002  # its name in links
        """Note that somebody looks at a Run, or at all of them."""
        self._looked = self._clock()
        if id != self._focus:
            self._focus = id
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread; a request that hangs is not waited for."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        # Rows come and go by the thousand: full collections would look at all of them in vain.
        gc.set_threshold(50_000, 20, 50)
        while not self._stopping.is_set():
            feed = self._next()
            if feed is None:
                self._rest()
                continue
            try:
                feed.work(self._clock() + SLICE)
            except AsynctrackError as error:
                feed.failed(f"{type(error).__name__}: {error}")
            except Exception as error:
                if self._stopping.is_set():
                    return
                logger.exception("asynctrack view cannot read %s", feed.state.uris[0])
                feed.failed(f"{type(error).__name__}: {error}")

    def _next(self) -> _Feed | None:
        """Return whose turn it is: the Run that is looked at, one that is not read yet, the one
        that was not looked at for longest."""
        now = self._clock()
        focused = [feed for feed in self._feeds if feed.state.id == self._focus]
        for feed in focused:
            if feed.busy or now - feed.looked >= EVERY:
                return feed
        for feed in self._feeds:
            if feed.busy or feed.looked == -1.0:
                return feed
        if now - self._looked > WATCHED:
            return None
        if now - self._located >= EVERY_OTHER:
            self._located = now
            try:
                self._add(self._locate())
            except AsynctrackError as error:
                logger.warning("asynctrack view cannot look for new Runs: %s", error)
        due = [feed for feed in self._feeds if now - feed.looked >= self._pause(feed.state)]
        return min(due, key=lambda feed: feed.looked, default=None)

    def _pause(self, state: RunState) -> float:
        if state.closed:
            return EVERY_CLOSED
        return EVERY if state.live and self._focus is None else EVERY_OTHER

    def _rest(self) -> None:
        watched = self._clock() - self._looked <= WATCHED
        self._wake.wait(0.1 if watched else None)
        self._wake.clear()

    def _add(self, found: list[Found]) -> None:
        known = {feed.state.id for feed in self._feeds}
        for one in found:
            if run_id(one) not in known:
                state = RunState(len(self._feeds) + 1, run_id(one), one)
                news = News(one, self._spool_dir, state.report, self._clock)
                feed = _Feed(state, news, self._index, self._cost_of, self._clock, self._wall)
                self._feeds = [*self._feeds, feed]


class _Feed:
    """One Run on its way into the index."""

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

    @property
    def busy(self) -> bool:
        """Whether it is in the middle of reading."""
        return self._steps is not None

    def work(self, until: float) -> None:
        """Look what is new, or go on reading it, until a time."""
        self._until = until
        if self._steps is None:
            self._look()
        if self._steps is not None and next(self._steps, self) is self:
            self._steps = None

    def failed(self, reason: str) -> None:
        """Note why it cannot be read; it is tried again."""
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
                        self._take_changed()
                    self._write()
                    yield
                elif len(self._spans) >= BATCH_SPANS:
                    self._write()
        self._take_changed()
        self._write()
        self.state.phase = "ready"
        self.state.changed()
        self.looked = self._clock()

    def _take_changed(self) -> None:
        for trace in self._builder.changed():
            self._take(trace, ended=False)

    def _take(self, trace: Trace, *, ended: bool) -> None:
        key = (trace.writer_id, trace.trace_id)
        number = self._numbers.get(key)
        if number is None:
            self._begun += 1
            number = self._numbers[key] = (self.state.number << 40) + self._begun
        if ended:  # the same ids may come again, for another trace
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
        """Take the mark from traces that are delivered by now."""
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
        if self._traces:
            self._index.write(self._traces, self._spans, self._replaced)
            self._traces, self._spans, self._replaced = [], [], []
        state.events += self._pending
        self._pending = 0
        state.total = max(state.total, state.events)
        state.traces = self._begun
        state.changed()
