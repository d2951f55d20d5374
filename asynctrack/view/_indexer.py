"""The background thread that fills the index: every Run once, and what is new in those that grow.

It works in slices of a fraction of a second, so that the Run somebody looks at is read first, and
rests while nobody looks: listing a bucket is not free.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from asynctrack._errors import AsynctrackError
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.spool import Spool

from ._feed import Feed
from ._index import Index
from ._progress import RunState, run_id

logger = logging.getLogger("asynctrack")

SLICE: Final = 0.4
"""Seconds of reading until the indexer decides anew what to read."""
WATCHED: Final = 10.0
"""Seconds after a page's last question during which it counts as open."""
EVERY: Final = 0.6
"""Seconds between two looks at a Run whose page is open."""
EVERY_OTHER: Final = 5.0
"""The same for other Runs that are not closed, and for new Runs."""
EVERY_CLOSED: Final = 30.0
"""The same for Runs whose writers have all ended."""


class Indexer:
    """Fills the index from Runs.

    Args:
        index: The index.
        locate: Finds the Runs to show; called again and again, for new ones.
        spool: This machine's spool; empty reads delivered events only.
        clock: Monotonic, in seconds.
        wall: Wall clock, in nanoseconds.
    """

    def __init__(
        self,
        index: Index,
        locate: Callable[[], list[Found]],
        spool: Spool,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._locate = locate
        self._spool = spool
        self._clock = clock
        self._wall = wall
        self._feeds: list[Feed] = []
        self._located = 0.0
        self._looked = clock()
        self._focus: str | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._ready: Callable[[RunState], None] = lambda _: None
        self._thread = threading.Thread(target=self._run, name="asynctrack-view", daemon=True)

    @property
    def runs(self) -> list[RunState]:
        """All Runs that were found, in that order."""
        return [feed.state for feed in self._feeds]

    def find(self, id: str) -> RunState | None:  # noqa: A002  # its name in links
        """Return a Run by its name in links."""
        return next((feed.state for feed in self._feeds if feed.state.id == id), None)

    def start(self, found: list[Found], ready: Callable[[RunState], None] = lambda _: None) -> None:
        """Start the thread.

        Args:
            found: The Runs found so far.
            ready: Told of each Run that has been read for the first time, in the thread.
        """
        self._ready = ready
        self._add(found)
        self._located = self._clock()
        self._thread.start()

    def watched(self, id: str | None) -> None:  # noqa: A002  # its name in links
        """Note that the page of a Run, or of all of them, is open."""
        self._looked = self._clock()
        if id != self._focus:
            self._focus = id
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread, without waiting for a request that hangs."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        # Rows come and go by the thousand: full collections would scan them for nothing.
        gc.set_threshold(50_000, 20, 50)
        while not self._stopping.is_set():
            feed = self._next()
            if feed is None:
                self._rest()
                continue
            try:
                phase = feed.state.phase
                feed.work(self._clock() + SLICE)
                if feed.state.phase == "ready" != phase:
                    self._ready(feed.state)
            except AsynctrackError as error:
                feed.failed(f"{type(error).__name__}: {error}")
            except Exception as error:
                if self._stopping.is_set():
                    return
                logger.exception("asynctrack view cannot read %s", feed.state.uris[0])
                feed.failed(f"{type(error).__name__}: {error}")

    def _next(self) -> Feed | None:
        """Return the next Run: one whose page is open, else one that is not read yet, else the one
        that was read longest ago."""
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
                feed = Feed(state, self._index, self._spool, self._clock, self._wall)
                self._feeds = [*self._feeds, feed]
