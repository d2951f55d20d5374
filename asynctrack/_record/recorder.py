"""Receipts, parameters and metrics to the Run and the manifest: coalesced, nothing lost.

Three parts, none of which waits for another one that is in trouble: the Run's parameters
(``updates``) and metrics (``points``) need SageMaker only, the manifest (``manifest_upload``) S3
only. Here it is decided when each of them writes; what the callbacks noticed is handed to them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._backends.protocol import Backend
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import Redactor
from asynctrack._common.artifact import Receipt, Written
from asynctrack._common.notices import Notices
from asynctrack._errors import BackendError, PermanentError
from asynctrack._record.manifest_upload import ManifestUpload
from asynctrack._record.metrics import MetricLog
from asynctrack._record.part import Part
from asynctrack._record.points import PointQueue
from asynctrack._record.share import RunShare
from asynctrack._record.updates import RunUpdates

WINDOW: Final = 10.0
"""Seconds of measurements in one point of a metric."""
PATIENCE: Final = 0.5
"""Seconds that ``write`` waits for a request, before it says to come again."""
MANIFEST_WAITS: Final = 1.0
"""Seconds that a manifest waits for the Run's parameters, whose names it gives."""
NOT_OPEN: Final = 0.5
"""Seconds after which to come again where there is no connection yet."""


@dataclass(slots=True)
class RecordCounts:
    """What was written to the Run."""

    updates: int = 0
    points: int = 0
    points_refused: int = 0
    points_left: int = 0


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
        share: What is shared with other writers into this Run.
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
        share: RunShare | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._backend = backend
        self._observations = observations
        self._notices = notices
        self._monotonic = monotonic
        self._uniform = uniform
        # Not anyio's, which belongs to the library of whoever makes it: trio, in a trio program.
        self._lock = asyncio.Lock()
        self._polling = False
        self._closed = False
        self._finished = False
        self._window_taken = monotonic()
        self._metrics = MetricLog()
        self._points = PointQueue(backend.put_metrics, notices)
        self.manifest = ManifestUpload(
            writer_id=writer_id, backend=backend, counts=counts, monotonic=monotonic
        )
        self._updates = RunUpdates(
            backend=backend,
            manifest=self.manifest,
            redactor=redactor,
            notices=notices,
            share=share or RunShare(),
            sleep=sleep,
            monotonic=monotonic,
        )
        run = ("write to the Run", "parameters and metrics wait")
        self._run_parts = (
            Part(*run, self._updates.send, lambda: self._updates.progress),
            Part(*run, self._send_points, lambda: self._points.sent),
        )
        self._manifest_part = Part(
            "store its manifest", "what belongs there waits", self._store_manifest, lambda: None
        )
        self._parts = (*self._run_parts, self._manifest_part)

    # -- what others ask ----------------------------------------------------------------------

    def delivered(self, receipt: Receipt) -> None:
        """Note an artifact that is stored."""
        self.manifest.delivered(receipt)
        self._updates.announce = True

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events that the backend refuses for good."""
        self.manifest.refused(first_seq, last_seq)

    @property
    def counted(self) -> RecordCounts:
        """What was written to the Run."""
        points = self._points
        return RecordCounts(self._updates.sent, points.sent, points.refused, points.left)

    @property
    def unwritten(self) -> tuple[int, int]:
        """Parameters and metric points that the Run lacks."""
        return self._updates.unwritten, len(self._points)

    def outdated(self) -> Iterator[Written]:
        """Yield what the user's Run object may have an older value of, each once; any thread."""
        return self._updates.outdated()

    def end(self) -> None:
        """Write nothing more: count what is left."""
        # What is seen after the last write belongs to events that came too late: they are told of.
        if not self._finished:
            self._collect(everything=True, last=True)
        self._points.give_up()
        for part in self._parts:
            part.cancel()

    async def write(self, *, everything: bool, closed: bool = False) -> float | None:
        """Write what is due.

        Args:
            everything: Whatever there is, not only what is due by the clock.
            closed: This is the last write.

        Returns:
            None when nothing is left to write; otherwise seconds after which to call again.
        """
        # The last write and one that was due by the clock may come at the same time.
        async with self._lock:
            if not self._backend.recordable:
                return NOT_OPEN
            wait = await self._write(everything, closed)
            self._polling = wait is not None
            self._finished = self._finished or (closed and wait is None)
            return wait

    async def _write(self, everything: bool, closed: bool) -> float | None:
        self._collect(everything, last=closed and not self._closed)
        closed = self._closed = self._closed or closed
        run, manifest = self._run_parts, self._manifest_part
        await self._wait_for(self._parts, seconds=0.0)  # what an earlier call has left
        for part in run:
            part.start(self._monotonic(), closed)
        store = everything or bool(manifest.failures) or self.manifest.due
        await self._wait_for(run, seconds=MANIFEST_WAITS if store else PATIENCE)
        if store and self._backend.located:
            manifest.start(self._monotonic(), closed)
        await self._wait_for(self._parts, seconds=PATIENCE)
        now = self._monotonic()
        waits = [wait for part in self._parts if (wait := part.again(now)) is not None]
        if everything and not self._backend.located:
            waits.append(NOT_OPEN)
        return min(waits, default=None)

    async def _wait_for(self, parts: Sequence[Part], *, seconds: float) -> None:
        """Wait until these parts have ended, or so long from their start."""
        under_way = {part.task for part in parts if part.task is not None}
        if not under_way:
            return
        # What hangs is waited for once, not by each call again.
        now = self._monotonic()
        prompt = [part for part in parts if part.task is not None and part.age(now) < seconds]
        await asyncio.wait(
            {part.task for part in prompt if part.task is not None} or under_way,
            timeout=max((seconds - part.age(now) for part in prompt), default=0.0),
        )
        for part in parts:
            if part.task is not None and part.task.done():
                error = part.ended(self._monotonic(), self._uniform)
                if error is not None:
                    self._tell(part, error)

    def _tell(self, part: Part, error: BackendError) -> None:
        if part.failures >= 3 or isinstance(error, PermanentError):
            self._notices.warn(
                f"record:{part.what}:{error.code}",
                f"asynctrack cannot {part.what} at the moment ({error}). Events go on to be"
                f" uploaded; {part.kept} in memory, and it is tried again. {error.advice}".rstrip(),
            )

    def _collect(self, everything: bool, last: bool = False) -> None:
        for values, before in self._observations.take_parameters():
            for name, value in values.items():
                self._updates.log(name, value, before)
        for attributes in self._observations.take_models():
            self._updates.find(attributes)
        for name in self._observations.take_prompts():
            self._updates.find({"langchain.prompt.name": name})
        points = self._metrics.points(self._observations.take_points())
        age = self._monotonic() - self._window_taken
        # Coming again and again for a request that hangs makes no point each time.
        if last or age >= WINDOW or (everything and (not self._polling or age >= WINDOW / 5)):
            self._window_taken = self._monotonic()
            window = self._observations.take_window()
            if not window.empty:
                points += self._metrics.window(window, time.time_ns())
        if points:
            self.manifest.changed()
            self._points.add(points)

    async def _send_points(self, closed: bool) -> None:
        await self._points.send()

    async def _store_manifest(self, closed: bool) -> None:
        await self.manifest.store(
            closed=closed, found=self._updates.found, metrics=self._metrics.summary
        )
