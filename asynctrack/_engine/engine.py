"""The engine: the one worker of the process, a daemon thread with an event loop of its own.

It has a loop of its own so that a user's loop that is blocked, closed or waiting for a callback
never stands in the way of delivery, and the other way round. It starts with the first tracker,
serves all of them, and ends some seconds after the last. Each tracker is a task in it: one that
fails, floods or waits for a dead server is its own task's trouble. What is the same for several
trackers is here once: clients, gates, replays, warnings.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Hashable
from contextvars import Context, copy_context
from typing import Final, Protocol
from weakref import WeakValueDictionary

from asynctrack._backends.pool import ClientPool
from asynctrack._capture.recurring import recurring_for
from asynctrack._capture.redact import Redactor
from asynctrack._common.notices import Board
from asynctrack._delivery.gate import MAX_UPLOADS, Flow, Gate
from asynctrack._delivery.takeover import Replayer
from asynctrack._engine.loop import run_loop
from asynctrack._spool.layout import spool_places
from asynctrack._spool.usage import Usage

LINGER: Final = 3.0
"""Seconds that the thread and its connections stay for the next tracker."""
MAX_SPOOLS: Final = 16
"""Spools whose leftovers are remembered, besides those in use."""


class Task(Protocol):
    """What the engine runs for one tracker."""

    async def run(self) -> None:
        """Do all of it; raises nothing."""

    def fail(self, error: BaseException) -> None:
        """Learn that the engine has ended, or never began."""


class Engine:
    """Runs the trackers of one process.

    Args:
        linger: Seconds that it stays after the last tracker.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        linger: float = LINGER,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._linger = linger
        self._monotonic = monotonic
        self._uniform = uniform
        self._lock = threading.RLock()  # re-entrant: a finalizer may enter a tracker
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.context = Context()
        """The engine's own, for what is called in its loop: a caller's holds what is the
        program's."""
        self._waiting: list[Task] = []  # for the loop
        self._tasks: dict[Task, asyncio.Task[None]] = {}
        self._idle: asyncio.Event | None = None
        # As long as somebody uses one: its key may hold the user's session.
        self._gates: WeakValueDictionary[Hashable, Gate] = WeakValueDictionary()
        self._replayers: dict[str | os.PathLike[str] | None, Replayer] = {}
        self.pool = ClientPool()
        """AWS's clients; used in the loop."""
        self.board = Board(monotonic)
        """Warnings: one cause is told once."""
        self.usage = Usage(monotonic)
        """How much each spool holds."""
        self.recurring = recurring_for(Redactor(), None)
        """What many events share to the byte; kept for the next tracker."""
        self.writers: set[str] = set()
        """The writers of this process that are open."""

    # -- from any thread ----------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Run a tracker's task in the loop; starts the thread where there is none.

        Raises:
            RuntimeError: No thread is to be had.
            MemoryError: The same.
        """
        with self._lock:
            self._waiting.append(task)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin_waiting, context=self.context)
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="asynctrack", daemon=True)
                try:
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    self._waiting.remove(task)
                    raise

    def runs_here(self) -> bool:
        """Tell whether the caller is the engine's own thread, which must never wait for itself."""
        thread = self._thread
        return thread is not None and threading.get_ident() == thread.ident

    def end_soon(self) -> threading.Thread | None:
        """Do without the wait for another tracker; return the thread, to be joined."""
        with self._lock:
            self._linger = 0.0
            if self._loop is not None and self._idle is not None:
                self._loop.call_soon_threadsafe(self._idle.set, context=self.context)
            return self._thread

    # -- in the loop --------------------------------------------------------------------------

    def gate(self, way: Hashable) -> Gate:
        """Return the gate of all that reach the same store alike.

        Args:
            way: What they have in common, see ``Backend.way``.
        """
        gate = self._gates.get(way)
        if gate is None:
            gate = Gate(Flow(MAX_UPLOADS), monotonic=self._monotonic, uniform=self._uniform)
            self._gates[way] = gate
        return gate

    def replayer(self, spool_dir: str | os.PathLike[str] | None) -> Replayer:
        """Return what delivers the leftovers of a spool, once for all trackers that use it.

        Args:
            spool_dir: The spool that the user has named, or None.
        """
        replayer = self._replayers.get(spool_dir)
        if replayer is None:
            if len(self._replayers) >= MAX_SPOOLS:
                for unused in [one for one, it in self._replayers.items() if not it.used]:
                    self._replayers.pop(unused).end()
            replayer = Replayer(lambda: spool_places(spool_dir), self.writers)
            self._replayers[spool_dir] = replayer
        return replayer

    def _run(self) -> None:
        try:
            run_loop(self._main())
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    async def _main(self) -> None:
        with self._lock:
            self.context = copy_context()
            self._loop = asyncio.get_running_loop()
            self._idle = asyncio.Event()
        self._begin_waiting()
        while True:
            await self._idle.wait()
            if self._tasks:
                self._idle.clear()
                continue
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), self._linger)
                if self._linger:
                    continue
            except (TimeoutError, asyncio.TimeoutError):  # two types until 3.10
                pass
            if not self._tasks and await self._end():
                return
            if not self._tasks:
                self._idle.set()

    async def _end(self) -> bool:
        """Close what is shared; tell whether no tracker has come meanwhile."""
        await self.pool.aclose_unused()
        with self._lock:
            if self._waiting or self._tasks:
                return False
            self._forget()
        self.board.tell_rest()
        return True

    def _forget(self) -> None:
        """Be as new: the next tracker starts another thread."""
        self._loop = self._thread = self._idle = None
        self._gates, self._replayers = WeakValueDictionary(), {}
        self.recurring.values.forget()

    def _begin_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._tasks[one] = task = asyncio.ensure_future(one.run())
            task.add_done_callback(lambda _, one=one: self._ended(one))  # type: ignore[misc]

    def _ended(self, one: Task) -> None:
        self._tasks.pop(one, None)
        if not self._tasks and self._idle is not None:
            self._idle.set()

    def _fail(self, error: BaseException) -> None:
        """Let all trackers know that nothing is delivered any more, or that it never began."""
        with self._lock:
            tasks = [*self._tasks, *self._waiting]
            self._tasks, self._waiting = {}, []
            self._forget()
        for one in tasks:
            one.fail(error)


_engine: Engine | None = None
_lock = threading.RLock()


def current() -> Engine:
    """Return the engine of this process."""
    global _engine
    with _lock:
        if _engine is None:
            _engine = Engine(LINGER)
        return _engine


def replace() -> Engine | None:
    """Let the next tracker have an engine of its own; return the one before, if there was one."""
    global _engine
    with _lock:
        before, _engine = _engine, None
    return before


def _after_fork() -> None:
    """Forget the parent's: neither its thread nor who may have held its locks is here."""
    global _lock
    _lock = threading.RLock()
    replace()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
