"""Writes to the Run and the manifest what the callbacks noticed and what was delivered.

Three writes that do not wait for each other: the Run's parameters (``updates``) and metrics
(``metrics``) need SageMaker only, the manifest (``manifest``) S3 only. Each has its own task,
failures and backoff. The recorder decides when each of them runs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._backends.protocol import Backend
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import Redactor
from asynctrack._common.artifact import Receipt, Written
from asynctrack._common.notices import Notices
from asynctrack._common.retry import RetryPolicy
from asynctrack._common.wakeup import Wakeup
from asynctrack._errors import BackendError, PermanentError
from asynctrack._record.limits import limits_of
from asynctrack._record.manifest import ManifestUpload
from asynctrack._record.metrics import MetricLog, MetricQueue
from asynctrack._record.updates import RunUpdates, SharedRun, shared_run

WINDOW: Final = 10.0
"""Seconds of measurements in one point of a metric."""
PATIENCE: Final = 0.5
"""Seconds that ``write`` waits for a request before it asks to be called again."""
MANIFEST_WAITS: Final = 1.0
"""Seconds that the manifest waits for the Run's parameters: it gives their names."""
PAUSE: Final = 1.0
"""Seconds that ``pause`` waits for a write at the most."""
NOT_OPEN: Final = 0.5
"""Seconds until the next try while there is no connection."""
AGAIN: Final = 0.1
"""Seconds until the next look at a write under way."""

_POLICY: Final = RetryPolicy(base=1.0, cap=30.0)


@dataclass(slots=True)
class RecordCounts:
    """What was written to the Run."""

    updates: int = 0
    points: int = 0
    points_refused: int = 0
    points_left: int = 0


class RetriedWrite:
    """One kind of write: its task while it is under way, and when it may be tried again.

    Args:
        what: What it does, for the warning when it fails.
        kept: What waits in that case, for the same warning.
        needed: Returns whether there is anything to do; takes whether this is the last time.
        work: Does it; takes the same.
        progress: Returns a value that changes with each successful request.
        over: Is set when it has ended.
    """

    def __init__(
        self,
        what: str,
        kept: str,
        needed: Callable[[bool], bool],
        work: Callable[[bool], Coroutine[Any, Any, None]],
        progress: Callable[[], object],
        over: Wakeup,
    ) -> None:
        self.what = what
        self.kept = kept
        self._needed = needed
        self._work = work
        self._progress = progress
        self._over = over
        self._mark = progress()
        self.task: asyncio.Task[None] | None = None
        self.failures = 0
        self._due = float("-inf")
        self._started = float("-inf")

    def start(self, now: float, closed: bool) -> None:
        """Begin, unless it is under way or it is too early."""
        # Nearly always there is nothing to do, for each of a thousand trackers: no task then.
        if self.task is None and now >= self._due and (self.failures or self._needed(closed)):
            self.task = asyncio.create_task(self._work(closed))
            self.task.add_done_callback(self._task_ended)
            self._started = now

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # asyncio logs one that nobody asks for
        self._over.set()

    def cancel(self) -> None:
        """Stop it. Nobody asks for its result any more."""
        if self.task is not None:
            self.task.cancel()

    def left(self, now: float, seconds: float) -> float:
        """Return how much of so many seconds from its start is left, while it is under way.

        So what hangs is waited for once, and not in each call.
        """
        return 0.0 if self.task is None or self.task.done() else seconds - (now - self._started)

    def again(self, now: float) -> float | None:
        """Return the seconds until the next look at it; None when it is done."""
        if self.task is not None:
            return AGAIN
        return max(AGAIN, self._due - now) if self.failures else None

    def ended(self, now: float, uniform: Callable[[], float]) -> BackendError | None:
        """Note that the task has ended; return its error."""
        task, self.task = self.task, None
        assert task is not None
        try:
            task.result()
        except BackendError as error:
            # Count failures in a row: the requests before this one may have worked.
            moved = self._mark != (mark := self._progress())
            self.failures, self._mark = (1 if moved else self.failures + 1), mark
            self._due = now + _POLICY.wait(self.failures, uniform(), error.retry_after)
            return error
        self.failures, self._due = 0, float("-inf")
        return None


class Recorder:
    """Writes to the Run and the manifest; used by the worker only.

    Args:
        writer_id: Whose manifest it is.
        backend: Where to write.
        observations: What the callbacks noticed.
        redactor: Cuts secrets out of what goes to the Run.
        notices: Rate-limited warnings.
        counts: Returns the counters of the accounting equation.
        sleep: Waits, in seconds.
        shared: What other trackers of this Run share with it; None finds it.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        writer_id: str,
        backend: Backend,
        observations: Observations,
        redactor: Redactor,
        notices: Notices,
        counts: Callable[[], Mapping[str, Any]],
        sleep: Callable[[float], Awaitable[None]],
        shared: SharedRun | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._backend = backend
        self._observations = observations
        self._notices = notices
        self._monotonic = monotonic
        self._uniform = uniform
        # Not anyio's lock: that belongs to the library of whoever makes it, which may be trio.
        self._lock = asyncio.Lock()
        self._polling = False
        self._closed = False
        self._finished = False
        self._window_taken = monotonic()
        self._counts = counts
        self._metrics_seq = 0
        record = self._record = backend.record
        limits = limits_of(record)
        self._metrics = MetricLog(limits)
        self._points = MetricQueue(None if record is None else record.put_metrics, notices, limits)
        self.manifest = ManifestUpload(
            writer_id=writer_id, backend=backend, counts=counts, monotonic=monotonic
        )
        self._updates = RunUpdates(
            backend=backend,
            record=record,
            manifest=self.manifest,
            redactor=redactor,
            notices=notices,
            shared=shared or shared_run("" if record is None else record.target),
            sleep=sleep,
            monotonic=monotonic,
        )
        self._ended = Wakeup()
        run = ("write to the Run", "parameters and metrics wait")
        self._run_writes: tuple[RetriedWrite, ...] = ()
        if record is not None:
            self._run_writes = (
                RetriedWrite(
                    *run,
                    self._updates.needed,
                    self._updates.send,
                    lambda: self._updates.progress,
                    self._ended,
                ),
                RetriedWrite(
                    *run,
                    lambda closed: bool(self._points),
                    self._send_points,
                    lambda: self._points.sent,
                    self._ended,
                ),
            )
        self._manifest_write = RetriedWrite(
            "store its manifest",
            "what belongs there waits",
            self.manifest.needed,
            self._store_manifest,
            lambda: None,
            self._ended,
        )
        self._writes = (*self._run_writes, self._manifest_write)
        self.on_written: Callable[[], None] = lambda: None
        """Called when a write has worked."""

    def delivered(self, receipt: Receipt) -> None:
        """Note a stored artifact."""
        self.manifest.delivered(receipt)
        self._updates.announce = True

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events that the backend refuses for good."""
        self.manifest.refused(first_seq, last_seq)

    @property
    def loading(self) -> bool:
        """Whether a library is being imported for it."""
        return self._record is not None and self._record.loading

    @property
    def in_trouble(self) -> bool:
        """Whether one of its writes has failed, and is to be repeated."""
        return any(write.failures for write in self._writes)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until a write that is under way has ended, for a second at the most."""
        tasks = {write.task for write in self._writes if write.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=PAUSE, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)

    @property
    def counted(self) -> RecordCounts:
        """What was written to the Run."""
        points = self._points
        return RecordCounts(self._updates.sent, points.sent, points.refused, points.left)

    @property
    def unwritten(self) -> tuple[int, int]:
        """Parameters and metric points that are missing in the Run, where there is one."""
        if self._record is None:
            return 0, 0
        return self._updates.unwritten, len(self._points)

    def outdated(self) -> Iterator[Written]:
        """Yield each value, once, that is older in the user's Run object; any thread."""
        return self._updates.outdated()

    def end(self) -> None:
        """Stop writing; count what is left."""
        # What comes after the last write belongs to events that are too late, which are reported.
        if not self._finished:
            self._collect(everything=True, last=True)
        self._points.give_up()
        for write in self._writes:
            write.cancel()

    async def write(self, *, everything: bool, closed: bool = False) -> float | None:
        """Write what is due.

        Args:
            everything: Whatever there is, not only what is due by the clock.
            closed: Whether this is the last write.

        Returns:
            None when nothing is left to write; otherwise the seconds until the next call.
        """
        # The last write and one that is due by the clock may come at the same time.
        async with self._lock:
            if self._record is not None and not self._record.ready:
                return NOT_OPEN
            wait = await self._write(everything, closed)
            self._polling = wait is not None
            self._finished = self._finished or (closed and wait is None)
            return wait

    async def _write(self, everything: bool, closed: bool) -> float | None:
        self._collect(everything, last=closed and not self._closed)
        closed = self._closed = self._closed or closed
        run, manifest = self._run_writes, self._manifest_write
        await self._wait_for(self._writes, seconds=0.0)  # what an earlier call has left
        for write in run:
            write.start(self._monotonic(), closed)
        store = everything or bool(manifest.failures) or self.manifest.due
        await self._wait_for(run, seconds=MANIFEST_WAITS if store else PATIENCE)
        if store and self._backend.located:
            manifest.start(self._monotonic(), closed)
        await self._wait_for(self._writes, seconds=PATIENCE)
        now = self._monotonic()
        waits = [wait for write in self._writes if (wait := write.again(now)) is not None]
        if everything and not self._backend.located:
            waits.append(NOT_OPEN)
        return min(waits, default=None)

    async def _wait_for(self, writes: Sequence[RetriedWrite], *, seconds: float) -> None:
        """Wait until these writes have ended, or until so long after their start."""
        while True:
            self._ended.clear()
            now = self._monotonic()
            left = max((write.left(now, seconds) for write in writes), default=0.0)
            if left <= 0 or not await self._ended.wait(left):
                break
        for write in writes:
            if write.task is not None and write.task.done():
                error = write.ended(self._monotonic(), self._uniform)
                if error is not None:
                    self._tell(write, error)
                else:
                    self.on_written()

    def _tell(self, write: RetriedWrite, error: BackendError) -> None:
        if write.failures >= 3 or isinstance(error, PermanentError):
            self._notices.warn(
                f"record:{write.what}:{error.code}",
                f"asynctrack cannot {write.what} at the moment ({error}). Events go on to be"
                f" uploaded; {write.kept} in memory, and it is tried again."
                f" {error.advice}".rstrip(),
            )

    def _collect(self, everything: bool, last: bool = False) -> None:
        news = self._observations.take_news()
        for values, before in news.parameters:
            for name, value in values.items():
                self._updates.log(name, value, before)
        for attributes in news.models:
            self._updates.add_found(attributes)
        for name in news.prompts:
            self._updates.add_found({"langchain.prompt.name": name})
        points = self._metrics.points(news.points)
        age = self._monotonic() - self._window_taken
        # Calls that only wait for a hanging request do not make a point each time.
        if last or age >= WINDOW or (everything and (not self._polling or age >= WINDOW / 5)):
            self._window_taken = self._monotonic()
            # Asked first: what is accepted has been measured.
            self._metrics_seq = self._counts().get("accepted", 0)
            window = self._observations.take_window()
            if not window.empty:
                points += self._metrics.window(window, time.time_ns())
        if points:
            self.manifest.changed()
            if self._record is not None:
                self._points.add(points)

    async def _send_points(self, closed: bool) -> None:
        await self._points.send()

    async def _store_manifest(self, closed: bool) -> None:
        await self.manifest.store(
            closed=closed,
            found=self._updates.found,
            metrics=self._metrics.summary,
            metrics_seq=lambda: self._metrics_seq,
        )
