"""The worker: one daemon thread with its own event loop, in which the stages are driven.

It has a loop of its own so that a user's loop that is blocked, closed or waiting for a callback
never stands in the way of delivery, and the other way round. What others ask of it comes in from
any thread: also before the loop is there, and after it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture

from asynctrack._buffer import Buffer
from asynctrack._flush import FlushRequest
from asynctrack._offload import run_loop
from asynctrack._stages import Stages

logger = logging.getLogger("asynctrack")


class Worker:
    """Runs the stages.

    Args:
        stages: What it drives.
        buffer: Where events wait.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        stages: Stages,
        buffer: Buffer,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._buffer = buffer
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()  # re-entrant: a finalizer may wake the worker
        self._started = False
        self._lazy = False
        self._early_close: float | None = None
        self.ended: ThreadFuture[None] = ThreadFuture()
        """Resolved when the thread ends."""

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
        self._call(self._stages.wake)

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
                self._stages.flushes.add(request)
                return request.future
        if not self._call(self._stages.begin_flush, request):
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
        self._call(self._stages.begin_close, timeout)

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
            if not self._stages.ready.done():
                self._stages.ready.set_result(None)
            self._stages.flushes.fail()
            self.ended.set_result(None)

    async def _main(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._started = True
            close = self._early_close
        if close is not None:
            self._stages.begin_close(max(0.0, close - self._monotonic()))
        await self._stages.run()
