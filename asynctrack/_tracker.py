"""``tracker(run)``: puts the stages together, and their life: open, closed, the final flush."""

from __future__ import annotations

import asyncio
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as ThreadTimeout
from concurrent.futures import wait as wait_for_futures
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from asynctrack._backends.mlflow.address import is_mlflow_address, looks_like_mlflow_run
from asynctrack._backends.mlflow.address import target_of as mlflow_target_of
from asynctrack._capture.installed import Installed, install
from asynctrack._capture.unloaded import Unloaded, is_environments
from asynctrack._engine import at_exit
from asynctrack._engine.destination import backend_maker
from asynctrack._engine.prepare import prepare, prepare_to_await
from asynctrack._engine.progress import progress
from asynctrack._engine.signals import termination
from asynctrack._errors import OptionError, StateError
from asynctrack._options import Options
from asynctrack._otlp.metrics import count_as_metrics, stop_counting
from asynctrack._otlp.target import later, target_of
from asynctrack._statistics import Statistics

# Only what imports nothing: tracker(...) is called in the user's event loop. The stages are
# imported by `_prepare`, in a thread where that matters.
if TYPE_CHECKING:
    from asynctrack._backends.pool import ClientPool
    from asynctrack._backends.protocol import Backend
    from asynctrack._capture.handlers import AsyncHandler, SyncHandler
    from asynctrack._common.live import LiveTraces
    from asynctrack._common.notices import Notices
    from asynctrack._engine.flush import Flush
    from asynctrack._engine.pipeline import Pipeline
    from asynctrack._engine.sink import Sink
    from asynctrack._otlp.target import Target

TURNS: Final = 10
"""Turns of the event loop that closing waits for at the most where spans are open."""
SPOOL_READY: Final = 1.0
"""Seconds that entering waits for the spool at the most, so that the first event is on disk too;
it takes a millisecond, unless the disk hangs."""
GRACE: Final = 0.5
"""Seconds beyond ``close_timeout`` after which a worker that does not end is left behind."""

RESCUE: Final = 1.0
"""Seconds for bringing to disk what is in memory only, where the engine does not come to it."""

State = Literal["new", "entering", "open", "closed"]
_H = TypeVar("_H", "AsyncHandler", "SyncHandler")


class Tracker:
    """Tracks into one Run. Made by ``tracker(...)``; enter it with ``async with`` or ``with``.

    Args:
        make_backend: Returns where everything goes; called once more in a forked child.
        options: The options.
        target: Where finished traces are sent as well; None sends them nowhere.
    """

    def __init__(
        self,
        make_backend: Callable[[ClientPool], Backend],
        options: Options,
        target: Target | None = None,
    ) -> None:
        self._target = target
        self._options = options
        self._make_backend = make_backend
        self._state: State = "new"
        self._unattended = False
        self._begun = False  # to close, and nobody waits for it yet
        self._deadline = 0.0
        self._built: Pipeline | None = None
        self._unloaded: Unloaded | None = None
        self._handlers: weakref.WeakSet[AsyncHandler | SyncHandler] = weakref.WeakSet()
        self._installed: Installed | None = None

    @property
    def writer_id(self) -> str:
        """Who accepts the events: unique for each tracker and process."""
        return (self._unloaded or self._pipeline).writer_id

    @property
    def _pipeline(self) -> Pipeline:
        """The stages; put together when they are first asked for."""
        if self._built is None:
            from asynctrack._engine.engine import current
            from asynctrack._engine.pipeline import Pipeline

            engine = current()
            self._built = Pipeline(
                self._make_backend(engine.pool),
                self._options,
                engine=engine,
                make_live=None if self._target is None else self._make_live,
            )
        return self._built

    def _make_live(self, writer_id: str, backend: Backend, notices: Notices) -> LiveTraces:
        from asynctrack._otlp.live import live_traces

        assert self._target is not None
        return live_traces(
            self._target,
            writer_id=writer_id,
            experiment=backend.experiment,
            run=backend.run,
            notices=notices,
        )

    async def __aenter__(self) -> AsyncHandler:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise StateError(
                "'async with tracker(...)' needs asyncio, and no loop of it runs here (trio?):"
                " use 'with tracker(...)', whose handler may be called from anywhere"
            ) from None
        self._claim()
        try:
            await prepare_to_await(installing=bool(self._options.install))
        except BaseException as error:
            return cast("AsyncHandler", self._enter_unloaded(error, "AsyncCallbackHandler"))
        from asynctrack._capture.handlers import AsyncHandler

        self._open()
        try:
            ready = asyncio.wrap_future(self._pipeline.stages.ready)
            await asyncio.wait({ready}, timeout=SPOOL_READY)
        except BaseException:
            self._give_up_entering()
            raise
        return self.adopt(AsyncHandler(self._pipeline.sink))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> SyncHandler:
        self._claim()
        try:
            prepare(installing=bool(self._options.install))
        except BaseException as error:
            return cast("SyncHandler", self._enter_unloaded(error, "BaseCallbackHandler"))
        from asynctrack._capture.handlers import SyncHandler

        self._open()
        try:
            wait_for_futures({self._pipeline.stages.ready}, timeout=SPOOL_READY)
        except BaseException:
            self._give_up_entering()
            raise
        return self.adopt(SyncHandler(self._pipeline.sink))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._unloaded is not None:
            return "<asynctrack.Tracker not loaded>"
        from asynctrack._common.markup import counted, one_line

        title = f"<asynctrack.Tracker {one_line(self._pipeline.sink.run_name)} {self._state}"
        return f"{title}>" if self._state == "new" else f"{title}: {counted(self.statistics())}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: where it tracks to, its state, and its counters."""
        from asynctrack._common.markup import counters, facts_html

        if self._unloaded is not None:
            return facts_html("Tracker, not loaded", counters(self.statistics()))
        title = f"Tracker of {self._pipeline.sink.run_name}, {self._state}"
        return facts_html(title, counters(self.statistics()))

    def statistics(self) -> Statistics:
        """Return a frozen snapshot of all counters; may be called from any thread, also later."""
        return (self._unloaded or self._pipeline).statistics()

    async def aclose(self) -> None:
        """Deliver everything, for at most ``close_timeout`` seconds, and end the worker.

        Goes on when its task is cancelled, also twice; the cancellation is passed on when it is
        done. Raises nothing of its own.
        """
        cancelled = await self._hear_out()
        if not self._begin_close():
            self._uninstall()  # one that was not loaded was never open
            return
        if self._pipeline.driver.ended.done():  # there was none
            self._end_close()
            if cancelled is not None:
                raise cancelled
            return
        import anyio

        ended = asyncio.wrap_future(self._pipeline.driver.ended)
        # The scope keeps anyio from cancelling again and again what is waited for in here; a
        # cancellation by asyncio comes through once each time, and is kept for afterwards.
        with anyio.CancelScope(shield=True), progress(self.statistics) as show:
            while not ended.done() and (left := self._deadline - time.monotonic()) > 0:
                try:
                    await asyncio.wait({ended}, timeout=min(left, show()))
                except asyncio.CancelledError as error:
                    cancelled = error
            if (rescue := self._pipeline.rescue()) is not None:
                until = time.monotonic() + RESCUE
                while rescue.is_alive() and time.monotonic() < until:
                    try:
                        await asyncio.sleep(0.01)
                    except asyncio.CancelledError as error:
                        cancelled = error
        self._end_close()
        if cancelled is not None:
            raise cancelled

    async def _hear_out(self) -> asyncio.CancelledError | None:
        """Let the event loop go on for a moment, if spans are open; return a cancellation of that.

        LangChain says in tasks of its own that a stream was left or a chain has ended.
        """
        cancelled: asyncio.CancelledError | None = None
        for _ in range(TURNS):
            if self._state != "open" or not self._pipeline.sink.capture.events.spans:
                break
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    def close(self) -> None:
        """Deliver everything, for at most ``close_timeout`` seconds, and end the worker.

        A KeyboardInterrupt meanwhile ends the wait; what is not delivered by then is reported.
        """
        if self._begin_close() or self._begun:
            self._begun = False
            self._wait_closed()
        else:
            self._uninstall()  # one that was not loaded was never open

    def begin_close(self) -> None:
        """Begin to close, for ``close`` to wait for it: many trackers close at the same time."""
        self._begun = self._begin_close()

    def close_at_exit(self) -> None:
        """Close at the interpreter's end, or go on with a close that was interrupted.

        The second Ctrl-C in an async program hits whatever runs at that moment: also a close that
        has begun and not yet come to its first wait.
        """
        forgotten = (self._state == "open" or self._begun) and not self._unattended
        self._begin_close()
        self._wait_closed()
        if forgotten:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def open_unattended(self) -> Sink:
        """Start a tracker whose ``with`` block nobody leaves: it ends with the interpreter."""
        self._unattended = True
        self._claim()
        self._open()
        return self._pipeline.sink

    def adopt(self, handler: _H) -> _H:
        """Take a handler along into a forked child, and install it where the option asks for it.

        Args:
            handler: A handler of this tracker's; it is returned.
        """
        self._handlers.add(handler)
        self._install(handler)
        return handler

    def _wait_closed(self) -> None:
        try:
            with progress(self.statistics) as show:
                while (left := self._deadline - time.monotonic()) > 0:
                    try:
                        self._pipeline.driver.ended.result(min(left, show()))
                        break
                    except (TimeoutError, ThreadTimeout):  # two types until 3.10
                        continue
        finally:
            if (rescue := self._pipeline.rescue()) is not None:
                rescue.join(RESCUE)
            self._end_close()

    def flush_and_mirror(self) -> Flush:
        """Deliver everything so far in this thread, for at most ``close_timeout`` seconds.

        For a Run that ends before the tracker does, as with the compat handler.
        """
        flush = self._pipeline.sink.request_flush()
        with progress(self.statistics) as show:
            deadline = time.monotonic() + self._options.close_timeout
            while (left := deadline - time.monotonic()) > 0 and not flush.done():
                flush.result(min(left, show()))
        self._mirror()
        return flush

    # -- inside -------------------------------------------------------------------------------

    def _claim(self) -> None:
        if self._state != "new":
            raise StateError(
                f"this tracker is {self._state} already: call tracker(...) again for each"
                " 'with' block"
            )
        self._state = "entering"

    def _open(self) -> None:
        self._state = "open"
        if self._options.close_on_sigterm:
            termination.add(self)
        self._count_as_metrics()
        self._pipeline.open()
        at_exit.remember(self)

    def _count_as_metrics(self) -> None:
        pipeline = self._pipeline
        pipeline.uploaded = count_as_metrics(self, pipeline.backend.experiment, pipeline.statistics)

    def _enter_unloaded(self, error: BaseException, base: str) -> Any:
        """Return a handler that drops, where the environment is to blame; else raise the error."""
        self._state = "closed"
        if not is_environments(error):
            raise error
        self._unloaded = Unloaded(error)
        handler = self._unloaded.enter(base)
        try:
            self._install(handler)
        except Exception:
            pass  # LangChain cannot be loaded either: it asks for no handler
        return handler

    def _give_up_entering(self) -> None:
        """Let the worker end by itself: nobody leaves a block whose entering was cancelled."""
        self._begin_close()
        self._end_close()

    def _begin_close(self) -> bool:
        if self._state != "open":
            return False
        self._state = "closed"
        self._uninstall()
        self._deadline = time.monotonic() + self._options.close_timeout + GRACE
        self._pipeline.driver.close(self._options.close_timeout)
        return True

    def _end_close(self) -> None:
        at_exit.forget(self)
        termination.discard(self)
        self._pipeline.buffer.close("close_timeout")
        self._pipeline.sink.end_holding()
        self._mirror()
        self._pipeline.leftovers().tell(self._pipeline.notices.warn)
        self._pipeline.forget()
        stop_counting(self)

    def _mirror(self) -> None:
        record = self._pipeline.backend.record
        if record is not None:
            record.mirror(self._pipeline.recorder.outdated())

    def after_fork(self) -> bool:
        """Be another writer: in the child of a fork, where the parent's worker is not.

        The parent goes on to deliver what was accepted before. Nothing of it is touched here, nor
        ever deleted: its event loop would tear down what the parent still uses.

        Returns:
            Whether it is open.
        """
        if self._state != "open":
            return False
        old = self._pipeline
        _left_to_the_parent.append(old)
        if old.keeper is not None:
            old.keeper.abandon()
        self._built = None
        self._count_as_metrics()
        self._pipeline.sink.capture.events.spans.inherit(old.sink.capture.events.spans)
        self._pipeline.driver.start_when_needed()
        self._unattended = True  # the child of multiprocessing never leaves the 'with' block
        for handler in self._handlers:
            handler._sink = self._pipeline.sink
        return True

    def _install(self, handler: AsyncHandler | SyncHandler) -> None:
        if self._options.install:
            self._installed = install(handler, process=self._options.install == "process")

    def _uninstall(self) -> None:
        if self._installed is not None:
            self._installed.undo()


_left_to_the_parent: list[Pipeline] = []


def make_tracker(run: Any, given: Mapping[str, Any]) -> Tracker:
    """Make a tracker for a Run or a folder; see ``asynctrack.tracker``.

    Raises:
        MissingExtraError: ``run`` is a Run, and no library is installed that sends to AWS; or
            ``otlp`` is set, and OpenTelemetry's exporter is not installed.
        OptionError: An option is not allowed.
        RunError: ``run`` is neither a Run nor a folder.
    """
    options = Options.resolve(given)
    make_backend = backend_maker(run, given, options)
    return Tracker(make_backend, options, _receiver(run, given, options))


def _receiver(run: Any, given: Mapping[str, Any], options: Options) -> Target | None:
    """Return where finished traces are sent as well."""
    if not options.traces:
        return target_of(options.otlp)
    if not (is_mlflow_address(run) or looks_like_mlflow_run(run)):
        if given.get("traces"):
            raise OptionError("traces", True, "False but with a run of MLflow")
        return target_of(options.otlp)  # one in the environment is meant for runs of MLflow
    from asynctrack._backends.mlflow.traces import endpoint_of, feedback_to, require_endpoint

    target = mlflow_target_of(run)
    return later(require_endpoint(target), endpoint_of(target), feedback_to(target))
