"""The worker: one daemon thread with its own event loop that drives the stages.

It cuts batches, delivers several at a time, keeps the spool supplied, and lets the recorder write
to the Run. It has a loop of its own so that a user's loop that is blocked, closed or waiting for a
callback never stands in the way of delivery, and the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Final

import anyio
import anyio.abc

from asynctrack._backends._protocol import Backend
from asynctrack._batch import CutPolicy
from asynctrack._buffer import Buffer
from asynctrack._closing import Closing
from asynctrack._delivery import Delivery
from asynctrack._errors import BackendError
from asynctrack._flush import Flushes, FlushRequest
from asynctrack._gate import Gate
from asynctrack._keeper import RETRY, Keeper
from asynctrack._notices import Notices
from asynctrack._offload import run_loop
from asynctrack._record import Recorder
from asynctrack._retry import RetryPolicy
from asynctrack._store import MemoryPiece, SegmentPiece
from asynctrack._takeover import Replayer

logger = logging.getLogger("asynctrack")

RECORD_TICK: Final = 2.0
"""Seconds between two looks at what is due for the Run. Also how long a Run's first parameters
are collected, so that a short one is written once."""
ON_ITS_WAY: Final = 0.005
"""Seconds until lines that are about to go to disk are looked at again."""
SPOOL_FIRST: Final = 5.0
"""Seconds that a disk which hangs may hold up the opening of the backend."""


class Worker:
    """Delivers what is in the buffer.

    Args:
        buffer: Where events wait.
        backend: Where they go.
        recorder: Writes to the Run.
        notices: Rate-limited warnings.
        policy: When a batch is cut.
        delivery: Delivers pieces.
        concurrency: How many at a time.
        gate: Says when one that has failed may be tried again.
        close_patience: Seconds without any delivery after which closing ends, where all is on disk.
        keeper: The spool, or None where there is none.
        replayer: Delivers what others left in it, or None.
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
        concurrency: int,
        gate: Gate,
        close_patience: float,
        keeper: Keeper | None,
        replayer: Replayer | None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._buffer = buffer
        self._backend = backend
        self._recorder = recorder
        self._notices = notices
        self._policy = policy
        self._keeper = keeper
        self._monotonic = monotonic
        self._uniform = uniform
        self._gate = gate
        self._delivery = delivery
        self._replayer = replayer
        self._replayed = asyncio.Event()
        self.closing = Closing(
            buffer=buffer,
            delivery=delivery,
            recorder=recorder,
            keeper=keeper,
            replayer=replayer,
            replayed=self._replayed,
            settle_all=self._settle_all,
            patience=close_patience,
            monotonic=monotonic,
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()  # re-entrant: a finalizer may wake the worker
        self._started = False
        self._lazy = False
        self._early_close: float | None = None
        self._close_timeout = 0.0
        self._flushes = Flushes()
        self._slots = asyncio.Semaphore(concurrency)
        self._wakeup = asyncio.Event()
        self._record_request = asyncio.Event()
        self._close_request = asyncio.Event()
        self._supply_request = asyncio.Event()
        self.ready: ThreadFuture[None] = ThreadFuture()
        self.ended: ThreadFuture[None] = ThreadFuture()

    # -- called from any thread ---------------------------------------------------------------

    def start_when_needed(self) -> None:
        """Start with the first event: in the child of a fork, which may never track anything."""
        self._lazy = True

    def start(self) -> None:
        """Start the thread."""
        self._lazy = False
        self._thread = threading.Thread(target=self._run, name="asynctrack", daemon=True)
        self._thread.start()

    def runs_here(self) -> bool:
        """Tell whether the caller is the worker's own thread, which must never wait for itself."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def wake(self) -> None:
        """Make the worker look at the buffer."""
        if self._lazy:
            with self._lock:
                if self._lazy:
                    self.start()
        self._call(self._wake)

    def request_flush(self) -> ThreadFuture[bool]:
        """Start delivering everything accepted so far.

        Returns:
            Resolved with whether it all was delivered.
        """
        request = FlushRequest(self._buffer.counts().accepted)
        with self._lock:
            if self._lazy:
                request.end(True)
                return request.future
            if not self._started and not self.ended.done():
                self._flushes.add(request)
                return request.future
        if not self._call(self._begin_flush, request):
            counts = self._buffer.counts()
            request.end(counts.delivered == counts.accepted)
        return request.future

    def close(self, timeout: float) -> None:
        """Start delivering everything, and end the thread when that is done or time is over.

        Args:
            timeout: Seconds; ``ended`` is resolved at the end.
        """
        with self._lock:
            if self._lazy:
                self._lazy = False  # nothing was tracked here
                self._buffer.close("closed")
                self.ended.set_result(None)
                return
            if not self._started and not self.ended.done():
                self._early_close = self._monotonic() + timeout
                return
        self._call(self._begin_close, timeout)

    def _call(self, function: object, *args: object) -> bool:
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(function, *args)  # type: ignore[arg-type]  # loosely typed
        except RuntimeError:
            return False  # the loop is closed: the worker has ended
        return True

    # -- in the worker's thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            run_loop(self._main())
        except BaseException as error:
            logger.exception(
                "asynctrack's worker has ended because of an error in it; further events are"
                " counted as dropped. Please report this."
            )
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                self._started = True
                self._loop = None
            self._buffer.close("worker_failed")
            if not self.ready.done():
                self.ready.set_result(None)
            self._flushes.fail()
            self.ended.set_result(None)

    async def _main(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._started = True
            close = self._early_close
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._look_at_flushes()  # those that were asked for before
                if close is not None:
                    self._begin_close(max(0.0, close - self._monotonic()))
                tasks.start_soon(self._close)
                if self._keeper is None:
                    self.ready.set_result(None)
                else:
                    tasks.start_soon(self._keep, self._keeper)
                    tasks.start_soon(self._keeper.commit)
                    # Opening the backend occupies this loop for seconds: it imports and parses.
                    # Events of that time belong on disk too, so the first segment comes first.
                    await asyncio.wait({asyncio.wrap_future(self.ready)}, timeout=SPOOL_FIRST)
                tasks.start_soon(self._record)  # needs no S3, which may be out of reach
                await self._open()
                if self._keeper is not None:
                    await self._keeper.describe()
                if self._replayer is not None:
                    tasks.start_soon(self._replay, self._replayer)
                await self._cut()
        finally:
            if self._keeper is not None:
                self._keeper.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(2.0):
                await self._close_backend()

    async def _close_backend(self) -> None:
        try:
            await self._backend.aclose()
        except BackendError as error:
            logger.debug("closing the backend's connections: %s", error)

    async def _open(self) -> None:
        policy = RetryPolicy()
        failures = 0
        while True:
            try:
                await self._backend.open()
                return
            except BackendError as error:
                failures += 1
                self._notices.warn(
                    "open",
                    f"asynctrack cannot reach its backend yet ({error}). Events wait in memory;"
                    " it is tried again until the tracker is closed.",
                )
                wait = policy.wait(failures, self._uniform(), error.retry_after)
                await anyio.sleep(wait)

    async def _cut(self) -> None:
        while True:
            await self._slots.acquire()
            piece = await self._next_piece()
            self._flushes.cut(piece.first_seq, piece.first_seq + piece.events - 1)
            if isinstance(piece, SegmentPiece) and self._keeper is not None:
                await self._keeper.seal(piece)
            self._tasks.start_soon(self._deliver, piece)
            del piece  # what waits for the next one must not hold on to this one

    async def _next_piece(self) -> MemoryPiece | SegmentPiece:
        while True:
            self._wakeup.clear()
            events, oldest, hurry = self._buffer.cut_state()
            hurry = hurry or self.closing.begun or self._flushes.hurry
            wait = self._policy.wait(events, oldest, self._monotonic(), hurry=hurry)
            if wait == 0.0:
                piece = self._buffer.take()
                if piece is not None:
                    return piece
                wait = ON_ITS_WAY if events else None  # to its segment
            with anyio.move_on_after(wait):
                await self._wakeup.wait()

    async def _deliver(self, piece: MemoryPiece | SegmentPiece) -> None:
        failures = 0
        while (failures := await self._delivery.attempt(piece, failures)) > 0:
            # Others first, that have not been tried: what is repeated is a share of all requests.
            # Nothing of this one is kept in memory meanwhile that was not there before.
            self._slots.release()
            await self._gate.afford_retry()
            await self._slots.acquire()
        self._flushes.settled(piece.first_seq)
        self._slots.release()
        self._look_at_flushes()

    async def _keep(self, keeper: Keeper) -> None:
        """Supply segments: at once, whenever one is wanted, and again where the disk refused."""
        while True:
            self._supply_request.clear()
            supplied = await keeper.supply()
            if not self.ready.done():
                self.ready.set_result(None)
            await keeper.unmap_waiting()
            with anyio.move_on_after(None if supplied else RETRY):
                await self._supply_request.wait()

    async def _record(self) -> None:
        wait: float | None = None
        while True:
            pause = RECORD_TICK if wait is None else wait
            with anyio.move_on_after(pause):
                await self._record_request.wait()
                if wait is not None:
                    await anyio.sleep(wait)  # a flush does not cut a backoff short
            self._record_request.clear()
            waiting = self._flushes.take_recording()
            wait = await self._recorder.write(everything=bool(waiting))
            if wait is not None:
                self._flushes.give_back(waiting)
                continue
            good = not self._buffer.counts().dead_lettered
            for request in waiting:
                request.end(good)

    async def _replay(self, replayer: Replayer) -> None:
        """Deliver what writers that have died left in the same spool."""
        await replayer.run()
        self._replayed.set()
        await replayer.keep_trying()

    # -- flush and close ----------------------------------------------------------------------

    def _wake(self) -> None:
        self._wakeup.set()
        self._supply_request.set()

    def _begin_flush(self, request: FlushRequest) -> None:
        self._flushes.add(request)
        self._wakeup.set()
        self._look_at_flushes()

    def _look_at_flushes(self) -> None:
        """Let the flushes whose events are settled wait for the Run."""
        if self._flushes.move_on():
            self._record_request.set()

    async def _settle_all(self) -> None:
        request = FlushRequest(self._buffer.counts().accepted, recorded=False)
        self._begin_flush(request)
        await asyncio.wrap_future(request.future)

    def _begin_close(self, timeout: float) -> None:
        self._close_timeout = timeout
        self._close_request.set()

    async def _close(self) -> None:
        await self._close_request.wait()
        await self.closing.run(self._close_timeout)
        self._tasks.cancel_scope.cancel()
