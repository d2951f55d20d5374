"""How a writer closes: everything is delivered, or on disk, and the Run knows; by a deadline.

It ends before the deadline where nothing moves and no event is lost by it. Flush by flush: what was
accepted, then what ends with the tracker, then what came in meanwhile; then the last write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.ledger import BufferCounts
from asynctrack._common.live import LiveTraces
from asynctrack._common.offload import offload
from asynctrack._common.tasks import Tasks
from asynctrack._delivery.delivery import Delivery
from asynctrack._record.recorder import Recorder
from asynctrack._spool.keeper import Keeper

SLOWEST: Final = 100_000
"""Bytes a second below which an upload under way counts as hanging."""
PATIENCE_TICK: Final = 0.1
"""Seconds between two looks at whether anything moves."""
RECORD_EARLY: Final = 1.0
"""Seconds that the Run waits for the events, before it is written without them."""
LAST_SUPPLY: Final = 0.25
"""Seconds for bringing to disk what is said last when the time is over."""
REPLAY_GRACE: Final = 5.0
"""Seconds for a replay of what others left, out of the time there is."""


class Patience:
    """Whether it is time to stop trying: pure, the clock passed in.

    Args:
        seconds: How long nothing may move.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._moved: tuple[float, ...] | None = None
        self._since = 0.0

    def lost(
        self, now: float, moved: tuple[float, ...], under_way: int, counts: BufferCounts
    ) -> bool:
        """Tell whether nothing has moved for too long, and no event is in memory only.

        What else waits is the Run's: it is in the manifest or in the events as well.

        Args:
            now: The monotonic clock, in seconds.
            moved: Counters of what was delivered and written so far.
            under_way: Bytes of the uploads under way, which give it more time.
            counts: The buffer's counters.
        """
        if moved != self._moved:
            self._moved, self._since = moved, now
        if now - self._since < self._seconds + under_way / SLOWEST:
            return False
        return not counts.pending

    def left(self, now: float) -> float:
        """Return the seconds until it may be lost at the earliest."""
        return self._since + self._seconds - now


class Closing:
    """Closes a writer, once.

    Args:
        buffer: What is to be emptied.
        delivery: Delivers it meanwhile.
        recorder: Writes to the Run.
        keeper: The spool, or None where there is none.
        looked: Waits so many seconds at the most until what others have left was tried, too.
        replayed: Returns how many events of others were delivered.
        settle_all: Waits until everything accepted so far is settled.
        patience: Seconds after which it ends where nothing moves and no event is in memory only.
        live: Sends traces on; None where nobody wants that.
        tasks: Has what runs beside it.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        buffer: Buffer,
        delivery: Delivery,
        recorder: Recorder,
        keeper: Keeper | None,
        looked: Callable[[float], Awaitable[None]],
        replayed: Callable[[], int],
        settle_all: Callable[[], Awaitable[None]],
        patience: float,
        live: LiveTraces | None,
        tasks: Tasks,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buffer = buffer
        self._delivery = delivery
        self._recorder = recorder
        self._keeper = keeper
        self._looked = looked
        self._replayed = replayed
        self._settle_all = settle_all
        self._patience = Patience(patience)
        self._live = live
        self._tasks = tasks
        self._watchers: list[asyncio.Task[None] | None] = []
        self._monotonic = monotonic
        self.abandon_open: Callable[[], bool] = lambda: True
        """Says of the spans open at the end that they are abandoned; False: again, with room."""
        self.begun = False
        self.gave_up = False
        """Whether it ended early, as nothing moved any more."""

    async def run(self, timeout: float) -> None:
        """Deliver everything; nothing is accepted any more afterwards.

        Args:
            timeout: Seconds.
        """
        self.begun = self._delivery.closing = True
        if self._live is not None:
            self._live.hurry()
        early = min(RECORD_EARLY, timeout / 4)
        first = min(PATIENCE_TICK, early)
        with anyio.move_on_after(timeout) as limit:
            # Nearly always it is over by then.
            watch = asyncio.get_running_loop().call_later(first, self._watch, limit, early - first)
            try:
                await self._deliver_rest()
            finally:
                watch.cancel()
                for one in self._watchers:
                    self._tasks.end(one)
        if self._keeper is not None and self._buffer.closed_reason is None:
            # As far as the disk takes it: the next tracker delivers it.
            self.abandon_open()
            with anyio.move_on_after(LAST_SUPPLY):
                await offload(self._buffer.finish)
                await self._keeper.supply()
        self._buffer.close("close_timeout")
        self._recorder.end()

    def without_worker(self) -> None:
        """Close where there is no worker: as far as the disk takes it, there; else lost. Blocks."""
        self.begun = True
        if self._buffer.closed_reason is None:
            self.abandon_open()
        self._buffer.finish()
        if self._keeper is not None:
            self._keeper.supply_now()
        self._buffer.close("closed")
        if self._keeper is not None:
            self._keeper.close()
        self._recorder.end()

    async def _deliver_rest(self) -> None:
        await self._settle_all()
        while self._buffer.closed_reason is None and not self.abandon_open():
            await self._settle_all()  # which makes room
        # Nothing is accepted from here on; what came in meanwhile is delivered too.
        self._buffer.close("closed")
        await self._settle_all()
        live = None if self._live is None else asyncio.wrap_future(self._live.finish())
        while (wait := await self._recorder.write(everything=True, closed=True)) is not None:
            await self._recorder.pause(wait)
        # The next chance may be far off: a short job after a crash is one as well.
        await self._looked(REPLAY_GRACE)
        if live is not None:
            await asyncio.wait({live})

    def _watch(self, limit: anyio.CancelScope, early: float) -> None:
        """Look after a closing that takes its time."""
        self._watchers += (
            self._tasks.start(self._lose_patience(limit)),
            self._tasks.start(self._record_meanwhile(early)),
        )

    async def _record_meanwhile(self, wait: float) -> None:
        """Write into the Run what there is, where the events take long or do not get out at all."""
        await asyncio.sleep(wait)
        while (again := await self._recorder.write(everything=True)) is not None:
            await self._recorder.pause(again)

    async def _lose_patience(self, limit: anyio.CancelScope) -> None:
        """End the closing when nothing moves and no event is lost by it."""
        delivery = self._delivery
        while True:
            recorded = self._recorder.counted
            live = None if self._live is None else self._live.counts()
            now = self._monotonic()
            moved = (
                now if self._recorder.loading else 0.0,
                delivery.artifacts,
                self._replayed(),
                recorded.updates,
                recorded.points,
                # What gets through for others, while nothing fails here: its turn comes.
                0 if self._recorder.in_trouble else delivery.passed_by_others,
                0 if live is None else live.waiting + live.feedback_waiting,
            )
            counts = self._buffer.counts()
            if self._patience.lost(now, moved, delivery.under_way, counts):
                self.gave_up = True
                limit.cancel()
                return
            await asyncio.sleep(max(PATIENCE_TICK, self._patience.left(now)))
