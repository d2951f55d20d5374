"""``tracker(run)``: puts the stages together, and their life: open, closed, the final flush."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import TimeoutError as ThreadTimeout
from concurrent.futures import wait as wait_for_futures
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import anyio

from asynctrack import _exit
from asynctrack._backends._aws import AwsBackend
from asynctrack._backends._local import LocalBackend
from asynctrack._backends._protocol import Backend
from asynctrack._backends._run import looks_like_run, read_run
from asynctrack._batch import CutPolicy
from asynctrack._buffer import Buffer
from asynctrack._callback import AsyncHandler, SyncHandler
from asynctrack._capture import Capture
from asynctrack._errors import OptionError, RunError, StateError
from asynctrack._keeper import Keeper
from asynctrack._notices import Notices
from asynctrack._observe import Observations
from asynctrack._options import Options, compile_redact
from asynctrack._progress import progress
from asynctrack._record import Recorder
from asynctrack._redact import Redactor
from asynctrack._sink import Flush, Sink
from asynctrack._spool import default_spool_dir
from asynctrack._statistics import Statistics
from asynctrack._store import Store
from asynctrack._worker import Worker

logger = logging.getLogger("asynctrack")

SPOOL_READY: Final = 1.0
"""Seconds that entering waits for the spool at the most, so that the first event is on disk too;
it takes a millisecond, unless the disk hangs."""
GRACE: Final = 0.5
"""Seconds beyond ``close_timeout`` after which a worker that does not end is left behind."""

State = Literal["new", "open", "closed"]


class Tracker:
    """Tracks into one Run. Made by ``tracker(...)``; enter it with ``async with`` or ``with``.

    Args:
        backend: Where everything goes.
        options: The options.
    """

    def __init__(self, backend: Backend, options: Options) -> None:
        self._options = options
        self._backend = backend
        self._state: State = "new"
        self._unattended = False
        self._deadline = 0.0
        self.writer_id: str = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"
        notices = Notices()
        observations = Observations()
        redactor = Redactor(compile_redact(options.redact))
        self._observations = observations
        spooled = options.durability != "memory"
        overflow = options.effective_overflow
        self._buffer = Buffer(
            writer_id=self.writer_id,
            store=Store(
                self.writer_id, options.max_batch_bytes, options.max_batch_events, spooled=spooled
            ),
            max_bytes=options.max_buffer_bytes,
            max_events=options.max_buffer_events,
            spool_bytes=options.max_spool_bytes if overflow == "spool" else None,
            wake=self._wake,
        )
        self._keeper = self._make_keeper(notices) if spooled else None
        self._recorder = Recorder(
            writer_id=self.writer_id,
            backend=backend,
            observations=observations,
            redactor=redactor,
            notices=notices,
            counts=self._equation,
            sleep=anyio.sleep,
        )
        self._worker = Worker(
            writer_id=self.writer_id,
            buffer=self._buffer,
            backend=backend,
            recorder=self._recorder,
            notices=notices,
            policy=CutPolicy(options.max_delay),
            compression=options.compression,
            concurrency=options.upload_concurrency,
            keeper=self._keeper,
        )
        self._sink = Sink(
            capture=Capture(tokens=options.tokens, redactor=redactor, observations=observations),
            buffer=self._buffer,
            observations=observations,
            worker=self._worker,
            notices=notices,
            block=overflow == "block",
            block_timeout=options.block_timeout,
            statistics=self.statistics,
        )

    async def __aenter__(self) -> AsyncHandler:
        self._open()
        await asyncio.wait({asyncio.wrap_future(self._worker.ready)}, timeout=SPOOL_READY)
        return AsyncHandler(self._sink)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> SyncHandler:
        self._open()
        wait_for_futures({self._worker.ready}, timeout=SPOOL_READY)
        return SyncHandler(self._sink)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<asynctrack.Tracker {self._backend.experiment}/{self._backend.run} {self._state}>"

    def statistics(self) -> Statistics:
        """Return a frozen snapshot of all counters; may be called from any thread, also later."""
        counts = self._buffer.counts()
        recorded = self._recorder.counted
        return Statistics(
            accepted=counts.accepted,
            delivered=counts.delivered,
            spooled=counts.spooled,
            pending=counts.pending,
            dead_lettered=counts.dead_lettered,
            dropped=counts.dropped,
            waiting_bytes=counts.waiting_bytes,
            artifacts=self._worker.artifacts,
            bytes_delivered=self._worker.bytes_delivered,
            retries=self._worker.retries,
            replayed=self._worker.replayed,
            run_updates=recorded.updates,
            metric_points=recorded.points,
            metric_points_unsent=recorded.points_refused + self._observations.points_skipped,
        )

    async def aclose(self) -> None:
        """Deliver everything, for at most ``close_timeout`` seconds, and end the worker.

        Goes on when its task is cancelled, also twice; the cancellation is passed on when it is
        done. Raises nothing of its own.
        """
        if not self._begin_close():
            return
        cancelled: asyncio.CancelledError | None = None
        ended = asyncio.wrap_future(self._worker.ended)
        # The scope keeps anyio from cancelling again and again what is waited for in here; a
        # cancellation by asyncio comes through once each time, and is kept for afterwards.
        with anyio.CancelScope(shield=True), progress(self.statistics) as show:
            while not ended.done() and (left := self._deadline - time.monotonic()) > 0:
                try:
                    await asyncio.wait({ended}, timeout=min(left, show()))
                except asyncio.CancelledError as error:
                    cancelled = error
        self._end_close()
        if cancelled is not None:
            raise cancelled

    def close(self) -> None:
        """Deliver everything, for at most ``close_timeout`` seconds, and end the worker.

        A KeyboardInterrupt meanwhile ends the wait; what is not delivered by then is reported.
        """
        if self._begin_close():
            self._wait_closed()

    def close_at_exit(self) -> None:
        """Close at the interpreter's end, or go on with a close that was interrupted.

        The second Ctrl-C in an async program hits whatever runs at that moment: also a close that
        has begun and not yet come to its first wait.
        """
        forgotten = self._state == "open" and not self._unattended
        self._begin_close()
        self._wait_closed()
        if forgotten:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def open_unattended(self) -> Sink:
        """Start a tracker whose ``with`` block nobody leaves: it ends with the interpreter."""
        self._unattended = True
        self._open()
        return self._sink

    def _wait_closed(self) -> None:
        try:
            with progress(self.statistics) as show:
                while (left := self._deadline - time.monotonic()) > 0:
                    try:
                        self._worker.ended.result(min(left, show()))
                        break
                    except (TimeoutError, ThreadTimeout):  # two types until 3.10
                        continue
        finally:
            self._end_close()

    def flush_and_mirror(self) -> Flush:
        """Deliver everything so far in this thread, for at most ``close_timeout`` seconds.

        For a Run that ends before the tracker does, as with the compat handler.
        """
        flush = self._sink.request_flush()
        with progress(self.statistics) as show:
            deadline = time.monotonic() + self._options.close_timeout
            while (left := deadline - time.monotonic()) > 0 and not flush.done():
                flush.result(min(left, show()))
        self._backend.mirror(self._recorder.written)
        return flush

    # -- inside -------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._state != "new":
            raise StateError(
                f"this tracker is {self._state} already: call tracker(...) again for each"
                " 'with' block"
            )
        self._state = "open"
        self._worker.start()
        _exit.remember(self)

    def _begin_close(self) -> bool:
        if self._state != "open":
            return False
        self._state = "closed"
        self._deadline = time.monotonic() + self._options.close_timeout + GRACE
        self._worker.close(self._options.close_timeout)
        return True

    def _end_close(self) -> None:
        _exit.forget(self)
        self._buffer.close("close_timeout")
        self._backend.mirror(self._recorder.written)
        statistics = self.statistics()
        if statistics.spooled and self._keeper is not None:
            logger.warning(
                "asynctrack could not deliver %d of %d events to %s within close_timeout=%g"
                " seconds. They are on disk in %s; the next tracker on this machine that uses"
                " this spool delivers them, or `asynctrack spool replay`.",
                statistics.spooled,
                statistics.accepted,
                self._backend.run,
                self._options.close_timeout,
                self._keeper.path,
            )
        if statistics.pending:
            logger.warning(
                "asynctrack could not deliver %d of %d events to %s within close_timeout=%g"
                " seconds: they are lost. Warnings above say what stood in the way; a larger"
                " close_timeout gives it more time.",
                statistics.pending,
                statistics.accepted,
                self._backend.run,
                self._options.close_timeout,
            )

    def _make_keeper(self, notices: Notices) -> Keeper:
        options = self._options
        folder = Path(options.spool_dir) if options.spool_dir else default_spool_dir()
        return Keeper(
            spool_dir=folder.expanduser().absolute(),
            writer_id=self.writer_id,
            info=self._spool_info,
            buffer=self._buffer,
            notices=notices,
            max_spool_bytes=options.max_spool_bytes,
            power=options.durability == "power",
        )

    def _spool_info(self) -> Mapping[str, Any]:
        return {
            "writer_id": self.writer_id,
            "experiment": self._backend.experiment,
            "run": self._backend.run,
            "compression": self._options.compression,
            "destination": self._backend.destination(),
        }

    def _wake(self) -> None:
        self._worker.wake()

    def _equation(self) -> Mapping[str, Any]:
        counts = self._buffer.counts()
        return {
            "accepted": counts.accepted,
            "delivered": counts.delivered,
            "spooled": counts.spooled,
            "pending": counts.pending,
            "dead_lettered": counts.dead_lettered,
            "dropped": counts.dropped,
        }


def make_tracker(run: Any, given: Mapping[str, Any]) -> Tracker:
    """Make a tracker for a Run or a folder; see ``asynctrack.tracker``.

    Raises:
        OptionError: An option is not allowed.
        RunError: ``run`` is neither a Run nor a folder.
    """
    options = Options.resolve(given)
    if isinstance(run, (str, os.PathLike)):
        return Tracker(_local_backend(Path(run), options), options)
    if not looks_like_run(run):
        raise RunError(f"tracker() takes a SageMaker Run or a folder, not {type(run).__qualname__}")
    for option in ("experiment_name", "run_name"):
        if given.get(option) is not None:
            raise OptionError(option, given[option], "left out with a Run, which has its own name")
    target = read_run(run)
    backend = AwsBackend(
        run,
        target,
        bucket=options.bucket,
        prefix=options.prefix,
        connections=options.upload_concurrency,
    )
    return Tracker(backend, options)


def _local_backend(folder: Path, options: Options) -> LocalBackend:
    if str(folder).startswith("s3:"):
        raise OptionError(
            "run", str(folder), "a SageMaker Run or a local folder; for S3 pass a Run"
        )
    if options.bucket is not None:
        raise OptionError("bucket", options.bucket, "left out when tracking into a folder")
    now = datetime.now(tz=timezone.utc)
    name = options.run_name or f"run-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return LocalBackend(folder, options.prefix or "", options.experiment_name or "default", name)
