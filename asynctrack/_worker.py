"""The worker: one daemon thread with its own event loop that drives the stages.

It cuts batches, encodes and uploads several at a time, and lets the recorder write to the Run. It
has a loop of its own so that a user's loop that is blocked, closed or waiting for a callback never
stands in the way of delivery, and the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.abc

from asynctrack._artifact import Batch
from asynctrack._backends._protocol import Backend, Store
from asynctrack._batch import CutPolicy
from asynctrack._buffer import Buffer
from asynctrack._encode import encode_batch, split_batch
from asynctrack._errors import BackendError, PermanentError
from asynctrack._format import MEDIA_TYPE
from asynctrack._gate import Flow, Gate
from asynctrack._keeper import RETRY, Keeper
from asynctrack._notices import Notices
from asynctrack._offload import run_loop
from asynctrack._record import Recorder
from asynctrack._retry import RetryPolicy
from asynctrack._store import MemoryPiece, SegmentPiece
from asynctrack._takeover import Replayer
from asynctrack._upload import DeferredError, Uploader

logger = logging.getLogger("asynctrack")

RECORD_TICK: Final = 2.0
"""Seconds between two looks at what is due for the Run. Also how long a Run's first parameters
are collected, so that a short one is written once."""


ON_ITS_WAY: Final = 0.005
"""Seconds until lines that are about to go to disk are looked at again."""
MAX_BACKOFF: Final = 10.0
"""Seconds between two attempts at one artifact at the most: it resumes soon after an outage."""
TOO_LARGE: Final = frozenset({"EntityTooLarge", "RequestEntityTooLarge", "413"})
"""What S3 says of an object that is too large: its halves may pass."""
SPOOL_FIRST: Final = 5.0
"""Seconds that a disk which hangs may hold up the opening of the backend."""
SLOWEST: Final = 100_000
"""Bytes a second below which an upload under way counts as hanging, when the tracker closes."""
PATIENCE_TICK: Final = 0.1
"""Seconds between two looks at whether anything moves, when the tracker closes."""
RECORD_EARLY: Final = 1.0
"""Seconds that closing waits for the events, before it writes into the Run without them."""
LAST_SUPPLY: Final = 0.25
"""Seconds for bringing to disk what is said last when the time for closing is over."""
REPLAY_GRACE: Final = 5.0
"""Seconds that closing waits for a replay of what others left, out of ``close_timeout``."""


@dataclass(slots=True)
class _FlushRequest:
    target: int
    future: ThreadFuture[bool]
    recorded: bool = True
    """Whether the Run and the manifest are to be written, too."""


class Worker:
    """Delivers what is in the buffer.

    Args:
        writer_id: Who accepted the events.
        buffer: Where they wait.
        backend: Where they go.
        recorder: Writes to the Run.
        notices: Rate-limited warnings.
        policy: When a batch is cut.
        compression: How artifacts are compressed.
        concurrency: How many are uploaded at a time.
        close_patience: Seconds without any delivery after which closing ends, where all is on disk.
        keeper: The spool, or None where there is none.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        writer_id: str,
        buffer: Buffer,
        backend: Backend,
        recorder: Recorder,
        notices: Notices,
        policy: CutPolicy,
        compression: str,
        concurrency: int,
        close_patience: float,
        keeper: Keeper | None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._writer_id = writer_id
        self._buffer = buffer
        self._backend = backend
        self._recorder = recorder
        self._notices = notices
        self._policy = policy
        self._compression = compression
        self._concurrency = concurrency
        self._close_patience = close_patience
        self._keeper = keeper
        self._monotonic = monotonic
        self._uniform = uniform
        self._gate = Gate(Flow(concurrency), monotonic=monotonic, uniform=uniform)
        self._uploader = self._uploader_for(backend)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()  # re-entrant: a finalizer may wake the worker
        self._started = False
        self._lazy = False
        self._early_flushes: list[_FlushRequest] = []
        self._early_close: float | None = None
        self._flushes: list[_FlushRequest] = []
        self._outstanding: set[int] = set()
        self._cut_through = 0
        self._recording: list[ThreadFuture[bool]] = []
        self._closing = False
        self._close_timeout = 0.0
        self._replayer: Replayer | None = None
        self.abandon_open: Callable[[], bool] = lambda: True
        """Says of the spans open at the end that they are abandoned; False: again, with room."""
        self._under_way = 0
        self.gave_up = False
        """Whether closing ended early: nothing could be delivered, and all of it is on disk."""
        self.artifacts = 0
        self.bytes_delivered = 0
        self.ready: ThreadFuture[None] = ThreadFuture()
        self.ended: ThreadFuture[None] = ThreadFuture()

    @property
    def retries(self) -> int:
        """Uploads tried again."""
        return self._uploader.retries

    @property
    def replayed(self) -> int:
        """Events of writers that had died, delivered for them."""
        return 0 if self._replayer is None else self._replayer.events

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
        request = _FlushRequest(self._buffer.counts().accepted, ThreadFuture())
        with self._lock:
            if self._lazy:
                request.future.set_result(True)
                return request.future
            if not self._started and not self.ended.done():
                self._early_flushes.append(request)
                return request.future
        if not self._call(self._begin_flush, request):
            counts = self._buffer.counts()
            request.future.set_result(counts.delivered == counts.accepted)
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
                requests = [*self._early_flushes, *self._flushes]
            self._buffer.close("worker_failed")
            if not self.ready.done():
                self.ready.set_result(None)
            for request in requests:
                _resolve(request.future, False)
            for future in self._recording:
                _resolve(future, False)
            self.ended.set_result(None)

    async def _main(self) -> None:
        self._wakeup = asyncio.Event()
        self._record_request = asyncio.Event()
        self._close_request = asyncio.Event()
        self._supply_request = asyncio.Event()
        self._replayed = asyncio.Event()
        self._slots = asyncio.Semaphore(self._concurrency)
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._started = True
            early, self._early_flushes = self._early_flushes, []
            close = self._early_close
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                for request in early:
                    self._begin_flush(request)
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
                    tasks.start_soon(self._replay, self._keeper)
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
            self._outstanding.add(piece.first_seq)
            last_seq = piece.first_seq + piece.events - 1
            self._cut_through = last_seq
            if isinstance(piece, SegmentPiece) and self._keeper is not None:
                await self._keeper.seal(piece)
            self._tasks.start_soon(self._deliver, piece)
            del piece  # what waits for the next one must not hold on to this one

    async def _next_piece(self) -> MemoryPiece | SegmentPiece:
        while True:
            self._wakeup.clear()
            events, oldest, hurry = self._buffer.cut_state()
            hurry = (
                hurry
                or self._closing
                or any(request.target > self._cut_through for request in self._flushes)
            )
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
        while (failures := await self._try(piece, failures)) > 0:
            # Others first, that have not been tried: what is repeated is a share of all requests.
            # Nothing of this one is kept in memory meanwhile that was not there before.
            self._slots.release()
            await self._gate.afford_retry()
            await self._slots.acquire()
        self._slots.release()
        self._look_at_flushes()

    async def _try(self, piece: MemoryPiece | SegmentPiece, failures: int) -> int:
        """Deliver a piece; where it has to wait for a retry, return how often it has failed."""
        last_seq = piece.first_seq + piece.events - 1
        try:
            batch = Batch(self._writer_id, piece.first_seq, last_seq, piece.raw())
        except OSError as error:
            self._notices.warn(
                "lost",
                f"asynctrack's spool was removed or damaged by others ({error}): {piece.events}"
                f" events (seq {piece.first_seq} to {last_seq}) are lost. They are counted as"
                " dead_lettered.",
            )
            self._recorder.refused(piece.first_seq, last_seq)
            lost = piece.events
        else:
            if isinstance(piece, SegmentPiece) and self._keeper is not None:
                await self._keeper.unmap(piece)
            try:
                refused = await self._upload(batch, failures, deferrable=True)
            except DeferredError as deferred:
                return deferred.failures
            if isinstance(piece, SegmentPiece) and self._keeper is not None:
                buried = [await self._keeper.bury(part, str(why)) for part, why in refused]
                if all(buried):
                    await self._keeper.settled(piece)
            for part, why in refused:
                self._recorder.refused(part.first_seq, part.last_seq)
                self._tell_refused(part, why)
            lost = sum(_events(part) for part, _ in refused)
        self._outstanding.discard(piece.first_seq)
        self._buffer.settle(piece, refused=lost)
        return 0

    async def _upload(
        self, batch: Batch, failures: int = 0, *, deferrable: bool = False
    ) -> list[tuple[Batch, PermanentError]]:
        """Upload a batch, in halves where it is too large; return what is refused for good."""
        artifact = encode_batch(batch, self._compression)
        self._under_way += len(artifact.content)
        try:
            receipt = await self._uploader.upload(
                artifact, failures=failures, deferrable=deferrable
            )
        except PermanentError as error:
            if error.code not in TOO_LARGE or _events(batch) == 1:
                return [(batch, error)]
            first, second = split_batch(batch)
            return [*await self._upload(first), *await self._upload(second)]
        finally:
            self._under_way -= len(artifact.content)
        self._recorder.delivered(receipt)
        self.artifacts += 1
        self.bytes_delivered += receipt.bytes
        return []

    def _tell_refused(self, part: Batch, error: PermanentError) -> None:
        where = "They are lost." if self._keeper is None else f"They are in {self._keeper.path}."
        self._notices.warn(
            f"refused:{error.code}",
            f"asynctrack could not upload {_events(part)} events (seq {part.first_seq} to"
            f" {part.last_seq}): the backend refuses the object for good ({error}). They are"
            f" counted as dead_lettered. {where}",
        )

    # -- flush and close ----------------------------------------------------------------------

    def _wake(self) -> None:
        self._wakeup.set()
        self._supply_request.set()

    async def _replay(self, keeper: Keeper) -> None:
        """Deliver what writers that have died left in the same spool."""
        self._replayer = Replayer(
            spool_dir=keeper.spool_dir,
            writer_id=self._writer_id,
            backend=self._backend,
            make_uploader=self._uploader_for,
            notices=self._notices,
        )
        await self._replayer.run()
        self._replayed.set()
        await self._replayer.keep_trying()

    def _uploader_for(self, store: Store) -> Uploader:
        return Uploader(
            store=store,
            media_type=MEDIA_TYPE,
            notices=self._notices,
            gate=self._gate,
            policy=RetryPolicy(cap=MAX_BACKOFF),
            uniform=self._uniform,
        )

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

    def _begin_flush(self, request: _FlushRequest) -> None:
        self._flushes.append(request)
        self._wakeup.set()
        self._look_at_flushes()

    def _look_at_flushes(self) -> None:
        """Hand the flushes whose events are settled on to the recorder."""
        settled = min(self._outstanding, default=self._cut_through + 1) - 1
        for request in [one for one in self._flushes if one.target <= settled]:
            self._flushes.remove(request)
            if not request.recorded:
                _resolve(request.future, True)
                continue
            self._recording.append(request.future)
            self._record_request.set()

    async def _record(self) -> None:
        wait: float | None = None
        while True:
            pause = RECORD_TICK if wait is None else wait
            with anyio.move_on_after(pause):
                await self._record_request.wait()
                if wait is not None:
                    await anyio.sleep(wait)  # a flush does not cut a backoff short
            self._record_request.clear()
            waiting, self._recording = self._recording, []
            wait = await self._recorder.write(everything=bool(waiting))
            if wait is None:
                good = not self._buffer.counts().dead_lettered
                for future in waiting:
                    _resolve(future, good)
            else:
                self._recording = [*waiting, *self._recording]

    def _begin_close(self, timeout: float) -> None:
        self._close_timeout = timeout
        self._close_request.set()

    async def _close(self) -> None:
        await self._close_request.wait()
        timeout = self._close_timeout
        self._closing = True
        with anyio.move_on_after(timeout):
            async with anyio.create_task_group() as closing:
                closing.start_soon(self._lose_patience, closing.cancel_scope)
                closing.start_soon(self._record_meanwhile)
                await self._deliver_rest()
                closing.cancel_scope.cancel()
        if self._keeper is not None and self._buffer.closed_reason is None:
            # As far as the disk takes it: the next tracker delivers it.
            self.abandon_open()
            with anyio.move_on_after(LAST_SUPPLY):
                await self._keeper.supply()
        self._buffer.close("close_timeout")
        self._recorder.end()
        self._tasks.cancel_scope.cancel()

    async def _record_meanwhile(self) -> None:
        """Write into the Run what there is, where the events take long or do not get out at all."""
        await anyio.sleep(min(RECORD_EARLY, self._close_timeout / 4))
        while (wait := await self._recorder.write(everything=True)) is not None:
            await anyio.sleep(wait)

    async def _deliver_rest(self) -> None:
        await self._settle_all()
        while not self.abandon_open():
            await self._settle_all()  # which makes room
        # Nothing is accepted from here on; what came in meanwhile is delivered too.
        self._buffer.close("closed")
        await self._settle_all()
        while (wait := await self._recorder.write(everything=True, closed=True)) is not None:
            await anyio.sleep(wait)
        if self._keeper is not None:
            # The next chance may be far off: a short job after a crash is one as well.
            with anyio.move_on_after(REPLAY_GRACE):
                await self._replayed.wait()

    async def _lose_patience(self, closing: anyio.CancelScope) -> None:
        """End the closing when nothing moves and nothing is lost by it: the rest is on disk."""
        moved: tuple[int, ...] | None = None
        since = self._monotonic()
        while True:
            now = self._monotonic()
            recorded = self._recorder.counted
            done = (self.artifacts, self.replayed, recorded.updates, recorded.points)
            if moved != (moved := done):
                since = now
            counts = self._buffer.counts()
            patience = self._close_patience + self._under_way / SLOWEST
            if now - since >= patience and counts.spooled and not counts.pending:
                self.gave_up = True
                closing.cancel()
                return
            await anyio.sleep(PATIENCE_TICK)

    async def _settle_all(self) -> None:
        accepted = self._buffer.counts().accepted
        request = _FlushRequest(accepted, ThreadFuture(), recorded=False)
        self._begin_flush(request)
        await asyncio.wrap_future(request.future)


def _events(batch: Batch) -> int:
    return batch.last_seq - batch.first_seq + 1


def _resolve(future: ThreadFuture[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
