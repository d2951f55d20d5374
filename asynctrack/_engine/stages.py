"""What the engine does for one tracker: it drives the stages, from the buffer to the Run.

It cuts batches and delivers several at a time, keeps the spool supplied, replays what others left
in it, lets the recorder write to the Run, and closes. Touched by the engine's loop only, but
for the flushes that are asked for before that runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import InvalidStateError
from typing import Final

import anyio

from asynctrack._backends.protocol import Backend
from asynctrack._buffer.batch import CutPolicy
from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.holding import Holding
from asynctrack._buffer.store import MemoryPiece, SegmentPiece
from asynctrack._common.live import LiveTraces
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._common.retry import RetryPolicy
from asynctrack._common.tasks import Tasks
from asynctrack._common.wakeup import Wakeup
from asynctrack._delivery.delivery import Delivery
from asynctrack._delivery.gate import Gate
from asynctrack._delivery.leftovers import Member
from asynctrack._delivery.takeover import Replayer
from asynctrack._engine.closing import Closing
from asynctrack._engine.flush import Flushes, FlushRequest
from asynctrack._errors import BackendError
from asynctrack._record.recorder import Recorder
from asynctrack._spool.keeper import RETRY, Keeper

logger = logging.getLogger("asynctrack")

RECORD_TICK: Final = 2.0
"""Seconds between two looks at what is due for the Run. Also how long a Run's first parameters
are collected, so that a short one is written once."""
ON_ITS_WAY: Final = 0.005
"""Seconds until lines that are about to go to disk are looked at again."""
LAST_WAIT: Final = 2.0
"""Seconds for each of the last steps of one that has closed."""
SPOOL_FIRST: Final = 5.0
"""Seconds that a disk which hangs may hold up the opening of the backend."""


class Stages:
    """Delivers what is in the buffer.

    Args:
        buffer: Where events wait.
        backend: Where they go.
        recorder: Writes to the Run.
        notices: Rate-limited warnings.
        policy: When a batch is cut.
        delivery: Delivers pieces.
        close_patience: Seconds after which closing ends where nothing moves and no event is in
            memory only.
        keeper: The spool, or None where there is none.
        gate: Returns the gate of all that reach the same store alike.
        replayer: Returns what delivers what others left in the spool.
        member: This tracker's part in that; None where there is no spool.
        holding: Holds traces until their root ends; None where none is.
        live: Sends traces on; None where nobody wants that.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        buffer: Buffer,
        backend: Backend,
        recorder: Recorder,
        notices: Notices,
        policy: CutPolicy,
        delivery: Delivery,
        close_patience: float,
        keeper: Keeper | None,
        gate: Callable[[Hashable], Gate],
        replayer: Callable[[], Replayer],
        member: Member | None,
        holding: Holding | None = None,
        live: LiveTraces | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._buffer = buffer
        self._backend = backend
        self._recorder = recorder
        self._notices = notices
        self._policy = policy
        self._delivery = delivery
        self._keeper = keeper
        self._gate = gate
        self._make_replayer = replayer
        self._replayer: Replayer | None = None
        self._member = member
        self._holding = holding
        self._tasks = Tasks()
        self._reached = Wakeup()  # the backend, or it was tried
        self._monotonic = monotonic
        self._uniform = uniform
        self.closing = Closing(
            buffer=buffer,
            delivery=delivery,
            recorder=recorder,
            keeper=keeper,
            looked=self._looked,
            replayed=lambda: 0 if member is None else member.events,
            settle_all=self._settle_all,
            patience=close_patience,
            live=live,
            tasks=self._tasks,
            monotonic=monotonic,
        )
        self.flushes = Flushes()
        self.ready: ThreadFuture[None] = ThreadFuture()
        """Resolved when the first segment is there, or the disk has refused it."""
        self._close_timeout: float | None = None
        self._wakeup = Wakeup()
        self._record_request = Wakeup()
        self._supply_request = Wakeup()
        self._settlement = Wakeup()
        self._supplied = Wakeup()
        self._supplying = self._recording = self._closes = self._finishing = False
        self._record_timer: asyncio.TimerHandle | None = None

    # -- called in the loop -------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the buffer."""
        self._wakeup.set()
        self._supply_soon()
        self._finish_soon()

    def begin_flush(self, request: FlushRequest) -> None:
        """Deliver what a flush waits for."""
        self.flushes.add(request)
        self._wakeup.set()
        self._look_at_flushes()

    def begin_close(self, timeout: float) -> None:
        """Deliver everything, and end when that is done or time is over.

        Args:
            timeout: Seconds.
        """
        self._close_timeout = timeout
        self._close_soon()

    def be_ready(self) -> None:
        """Let nobody wait for the first segment any more; may be called in any thread."""
        try:
            self.ready.set_result(None)
        except InvalidStateError:
            pass  # it is already

    async def run(self) -> None:
        """Drive the stages until everything is closed."""
        try:
            await self._tasks.run(self._begin())
            if self._keeper is not None:
                await self._keeper.aclose()  # where an error ends it, events go on to disk
        finally:
            if self._record_timer is not None:
                self._record_timer.cancel()
            if self._replayer is not None and self._member is not None:
                ending = self._replayer.leave(self._member)
                if ending:
                    with anyio.move_on_after(LAST_WAIT, shield=True):
                        await asyncio.wait(ending)
            with anyio.move_on_after(LAST_WAIT, shield=True):
                await self._close_backend()

    async def _begin(self) -> None:
        # What was asked for before.
        self._close_soon()
        self._look_at_flushes()
        self._finish_soon()
        if self._keeper is None:
            self.be_ready()
        else:
            self._supply_soon()
            if self._keeper.power:
                self._tasks.start(self._keeper.commit())
            # Opening the backend may take seconds: it imports and parses. Events of that time
            # belong on disk too, so the first segment comes first.
            if self._supplying:
                await self._supplied.wait(SPOOL_FIRST)
            else:
                self.be_ready()  # whoever stood in has made it
        # Needs no S3, which may be out of reach.
        loop = asyncio.get_running_loop()
        self._record_timer = loop.call_later(RECORD_TICK, self._record_soon)
        if self._backend.record is not None:
            self._tasks.start(self._backend.record.begin())
        await self._open()
        gate = self._gate(self._backend.way)
        self._delivery.open(gate)
        self._recorder.on_written = gate.note_passed
        if self._keeper is not None:
            await self._keeper.describe()
        if self._member is not None:
            self._replayer = self._make_replayer()
            self._replayer.join(self._member)
            self._reached.set()
        await self._cut()

    async def _close_backend(self) -> None:
        for one in (self._backend.record, self._backend):
            try:
                if one is not None:
                    await one.aclose()
            except BackendError as error:
                logger.debug("closing: %s", error)

    async def _open(self) -> None:
        policy = RetryPolicy()
        failures = 0
        while True:
            try:
                await self._backend.open()
                return
            except BackendError as error:
                failures += 1
                self._reached.set()
                self._notices.warn(
                    "open",
                    f"asynctrack cannot reach its backend yet ({error}). Events wait in memory;"
                    f" it is tried again until the tracker is closed. {error.advice}".rstrip(),
                )
                wait = policy.wait(failures, self._uniform(), error.retry_after)
                await anyio.sleep(wait)

    async def _cut(self) -> None:
        while True:
            piece = await self._next_piece()
            self.flushes.cut(piece.first_seq, piece.first_seq + piece.events - 1)
            if isinstance(piece, SegmentPiece) and self._keeper is not None:
                self._keeper.cut(piece)
            elif self._holding is not None:
                self._holding.note_stored()  # it goes to no segment any more
            self._tasks.start(self._deliver(piece))
            del piece  # what waits for the next one must not hold on to this one

    async def _next_piece(self) -> MemoryPiece | SegmentPiece:
        """Return the next piece, with a slot for it, which is not held before there is one: those
        that wait for their next attempt want it too."""
        while True:
            self._wakeup.clear()
            events, oldest, hurry = self._buffer.cut_state()
            hurry = hurry or self.closing.begun or self.flushes.hurry
            wait = self._policy.wait(events, oldest, self._monotonic(), hurry=hurry)
            if wait == 0.0 and not (self.closing.begun or self._buffer.may_cut()):
                self._supply_soon()
                wait = ON_ITS_WAY
            elif wait == 0.0:
                await self._delivery.slot()
                piece = self._buffer.take()
                if piece is not None:
                    return piece
                self._delivery.give_back()
                wait = ON_ITS_WAY if events else None  # to its segment
            await self._wakeup.wait(wait)

    async def _deliver(self, piece: MemoryPiece | SegmentPiece) -> None:
        first = not self._delivery.artifacts
        await self._delivery.deliver(piece)
        if first and self._delivery.artifacts and self._keeper is not None:
            await self._keeper.describe()  # that its destination has been reached
        self.flushes.settled(piece.first_seq)
        self._settlement.set()
        self._finish_soon()  # what is held may find room now
        self._look_at_flushes()

    def _supply_soon(self) -> None:
        """Make the segments that are wanted, where nobody does."""
        if self._supplying:
            self._supply_request.set()
        elif self._keeper is not None and self._keeper.wanted and self._tasks.running:
            self._supplying = True
            self._tasks.start(self._supply(self._keeper))

    async def _supply(self, keeper: Keeper) -> None:
        """Supply segments as long as one is wanted, and again where the disk refused."""
        try:
            while keeper.wanted:
                self._supply_request.clear()
                # One that closes needs a further segment only for what is in memory.
                closing = self.closing.begun
                supplied = await keeper.supply(for_memory=closing)
                self.be_ready()
                self._supplied.set()
                self._wakeup.set()
                if closing:
                    return
                if not supplied:
                    await self._supply_request.wait(RETRY)
        finally:
            self._supplying = False

    def _finish_soon(self) -> None:
        """Finish the events that callbacks have left to the worker, where nobody does."""
        if self._unfinished and not self._finishing and self._tasks.running:
            self._finishing = True
            self._tasks.start(self._finish())

    async def _finish(self) -> None:
        try:
            if self._holding is not None and self._holding.unfinished:
                await offload(self._holding.finish, at_once=True)
            while self._buffer.unfinished:
                await offload(self._buffer.finish, at_once=True)
        finally:
            self._finishing = False

    @property
    def _unfinished(self) -> bool:
        held = self._holding is not None and self._holding.unfinished
        return held or self._buffer.unfinished

    def _record_soon(self) -> None:
        """Write to the Run what is due, from now on."""
        if self._recording:
            self._record_request.set()
        elif self._tasks.running:
            self._recording = True
            self._tasks.start(self._record())

    async def _record(self) -> None:
        while True:
            self._record_request.clear()
            waiting = self.flushes.recording
            wait = await self._recorder.write(everything=bool(waiting))
            if wait is None:
                self.flushes.recorded(waiting, not self._buffer.counts().dead_lettered)
                await self._record_request.wait(RECORD_TICK)
            else:
                await asyncio.sleep(wait)  # a flush does not cut a backoff short

    async def _looked(self, patience: float) -> None:
        """Wait for what others have left, but not for a store that is out of reach."""
        if self._member is None or self._member.looked.is_set():
            return
        with anyio.move_on_after(patience):
            await self._reached.wait()
            if self._replayer is not None:
                await self._replayer.looked(self._member)

    def _look_at_flushes(self) -> None:
        """Let the flushes whose events are settled wait for the Run."""
        if self.flushes.move_on():
            self._record_soon()

    async def _settle_all(self) -> None:
        """Wait until all that was accepted so far has arrived, or never will."""
        target = self._buffer.counts().accepted
        self._wakeup.set()
        await asyncio.sleep(0)  # whoever calls this in a loop holds nobody up
        while self.flushes.settled_through < target:
            self._settlement.clear()
            await self._settlement.wait()

    def _close_soon(self) -> None:
        """Begin to close, once, where that was asked for."""
        if self._close_timeout is not None and self._tasks.running and not self._closes:
            self._closes = True
            self._tasks.start(self._close(self._close_timeout))

    async def _close(self, timeout: float) -> None:
        await self.closing.run(timeout)
        self._tasks.cancel()
