"""Drives one tracker in the engine; while that has no thread, does itself what must not wait.

What others ask of a tracker comes in from any thread: also before its task has begun, after it has
ended, and while there is no thread to be had. Then whoever asks brings to disk what there is
(``standby``), and the engine is tried again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Final

from asynctrack._buffer.buffer import Buffer
from asynctrack._common.notices import report
from asynctrack._engine.engine import Engine
from asynctrack._engine.flush import FlushRequest
from asynctrack._engine.stages import Stages
from asynctrack._engine.standby import Standby

AGAIN: Final = 1.0
"""Seconds between two tries to get a thread where there was none."""
CLOSE_WAIT: Final = 1.0
"""Seconds that closing waits for another thread that stands in for the worker."""


class Driver:
    """Drives the stages of one tracker.

    Args:
        engine: Where they run.
        stages: What it drives.
        standby: What is done while there is no engine.
        buffer: Where events wait.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        stages: Stages,
        standby: Standby,
        buffer: Buffer,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._stages = stages
        self._standby = standby
        self._buffer = buffer
        self._monotonic = monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()  # re-entrant: a finalizer may wake the worker
        self._begun = False  # the loop of the thread runs, or did
        self._dead = False
        self._close_by: float | None = None
        self._hands = threading.RLock()  # held by who stands in for the worker
        self._busy = False
        self._asked = False
        self._tried_last = False
        self._again = 0.0
        self._disk_first = False
        self.absent = True
        """Whether nothing is delivered: whoever waited for it would wait for nobody."""
        self.ended: ThreadFuture[None] = ThreadFuture()
        """Resolved when nothing is delivered any more."""

    def start_when_needed(self) -> None:
        """Start with the first event: in the child of a fork, which may never track anything.

        Whoever tracks that event brings it to disk as well, in a millisecond: there is nothing yet.
        """
        self._disk_first = True

    def start(self) -> None:
        """Start the thread. Raises nothing: without one, events are kept until there is one."""
        self._stand_in()

    def runs_here(self) -> bool:
        """Tell whether the caller is the engine's own thread, which must never wait for itself."""
        return self._engine.runs_here()

    def wake(self) -> None:
        """Make the worker look at the buffer."""
        if self.absent:
            self._stand_in()
        self._call(self._stages.wake)

    def request_flush(self) -> ThreadFuture[bool]:
        """Start delivering everything accepted so far.

        Returns:
            Resolved with whether it all was delivered.
        """
        request = FlushRequest(self._buffer.counts().accepted)
        if self.absent and request.target:
            self._stand_in()
        with self._lock:
            if not self.absent and not self._begun and not self.ended.done():
                self._stages.flushes.add(request)
                return request.future
        # Its own end is not the end of the loop, which may have others to serve.
        if self.ended.done() or not self._call(self._stages.begin_flush, request):
            request.end(self._all_delivered())
        return request.future

    def close(self, timeout: float) -> None:
        """Start delivering everything, and end the thread when that is done or time is over.

        Args:
            timeout: Seconds; ``ended`` is resolved at the end.
        """
        with self._lock:
            self._close_by = self._monotonic() + timeout
            absent = self.absent
        if absent:
            self._close_without()
        else:
            self._call(self._stages.begin_close, timeout)  # or it looks when it begins or fails

    def _all_delivered(self) -> bool:
        counts = self._buffer.counts()
        return counts.delivered == counts.accepted

    def _call(self, function: Callable[..., object], *args: object) -> bool:
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(function, *args, context=self._engine.context)
        except RuntimeError:
            return False  # the loop is closed: the worker has ended
        return True

    # -- while there is no worker -------------------------------------------------------------

    def _stand_in(self) -> None:
        """Get a worker where one is to be had; else bring to disk what there is, in this thread.

        Whoever finds another thread at it leaves it to that one, which looks again.
        """
        self._asked = True
        while self._asked and self.absent and self._hands.acquire(blocking=False):
            try:
                if self._busy:
                    return  # a finalizer, or a signal handler, in the midst of it
                self._busy = True
                try:
                    self._asked = False
                    if self._disk_first:
                        self._disk_first = False
                        self._standby.supply()
                    if self._monotonic() < self._again or not self._start():
                        self._standby.supply()
                        self._stages.be_ready()
                finally:
                    self._busy = False
            finally:
                self._hands.release()

    def _start(self) -> bool:
        """Have the engine run it; tell whether that has a thread."""
        if self._dead:
            return False
        self._again = self._monotonic() + AGAIN
        self.absent = self._begun = self._buffer.wake_always = False
        try:
            self._engine.submit(self)
        except (RuntimeError, MemoryError) as error:
            self._be_without(error)
            return False
        return True

    def _be_without(self, cause: BaseException) -> None:
        """Have no worker: nobody waits for what it would do, and each event asks for it again."""
        self._standby.cause = cause
        self._stages.flushes.fail()
        self._buffer.wake_always = True
        with self._lock:
            self.absent = True

    def _close_without(self) -> None:
        held = self._hands.acquire(timeout=CLOSE_WAIT)
        try:
            if not self.absent:
                return
            last_try = held and not self._tried_last and self._buffer.counts().accepted > 0
            self._tried_last = True
            if not (last_try and self._start()):
                self._standby.close()
                self._end()
        finally:
            if held:
                self._hands.release()

    # -- in the engine's thread -----------------------------------------------------------------

    async def run(self) -> None:
        """Drive the stages to their end; an error in them is this tracker's alone."""
        try:
            with self._lock:
                self._loop = asyncio.get_running_loop()
                self._begun, self.absent = True, False
                close = self._close_by
            self._standby.cause = None
            if close is not None:
                self._stages.begin_close(max(0.0, close - self._monotonic()))
            await self._stages.run()
        except BaseException as error:
            self.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._end()

    def fail(self, error: BaseException) -> None:
        """Go on without the engine, because of an error in it, or as it never began."""
        self._loop = None
        if self._begun:
            self._dead = True  # what the stages hold belongs to a loop that is gone
            report(
                error,
                "asynctrack's worker has ended because of an error in it; %s. Please report this.",
                "events go on to disk, for the next tracker to deliver"
                if self._standby.keeps
                else "further events are counted as dropped",
            )
            if not self._standby.keeps:
                self._end()
                return
            self._standby.told = True
        self._be_without(error)
        if self._dead:
            self._stages.flushes.end(False)
        if self._close_by is not None:
            self._close_without()
        else:
            self._stand_in()

    def _end(self) -> None:
        with self._lock:
            self._loop = None
            self.absent = False
        self._buffer.close("worker_failed")
        self._buffer.wake_always = False
        self._stages.be_ready()
        self._stages.flushes.end(self._all_delivered())
        if not self.ended.done():
            self.ended.set_result(None)
