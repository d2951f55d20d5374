"""Blocking work of the engine's event loop in threads, also while the interpreter ends.

One thread serves all trackers: with two, half of the time goes into handing the interpreter to and
fro. Where a disk is slow there is one more, and where it hangs as many as it takes, so that it
holds up nobody else. ``anyio.to_thread`` would do, and takes 0.15 ms for each call, most of it in
the loop: half of what a small tracker costs altogether. Here what has ended while the loop was busy
is handed over at once.

A program that ends without leaving its ``with`` block is flushed while the interpreter shuts down,
and from Python 3.12 on no thread can be started any more by then. What cannot have a thread runs
in the engine's own one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from asynctrack._common.own import own_work
from asynctrack._common.turns import turns
from asynctrack._common.wakeup import Wakeup

THREADS: Final = 1
"""Threads while nothing hangs."""
SLOW_THREADS: Final = 2
"""Threads while calls take long. Few: a machine with too much to do looks like a slow disk."""
MAX_THREADS: Final = 64
"""Threads while calls hang."""
LOOK: Final = 0.1
"""Seconds between two looks at whether another thread is needed."""
SLOW: Final = 0.1
"""Seconds that a call takes, on average, where the disk holds the threads up."""
HANGING: Final = 5
"""Looks after which calls hang of which none has ended meanwhile, nor got anything of a processor:
one that waits for the interpreter does."""
IDLE: Final = 5.0
"""Seconds without a call after which a thread ends."""

_HAS_CLOCKS: Final = hasattr(time, "pthread_getcpuclockid")
_CANCELLED: Final = float("-inf")
"""The deadline of a scope of anyio's that is cancelled."""

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class _Call:
    """A call, and what came of it; ``ended`` is set in the loop."""

    do: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None
    ended: Wakeup = field(default_factory=Wakeup)


class _Threads:
    """The threads of one event loop. Used in that loop, but for ``_run``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = Lock()
        self._done: deque[_Call] = deque()
        self._told = False  # the loop will look at what is done
        self._threads = 0
        self._under_way = 0
        self._ended, self._took = 0, 0.0  # calls since the last look, and their seconds
        self._still = 0  # looks since anything has moved
        self._clocks: set[int] = set()  # the processor time of each thread
        self._spent = 0.0
        self._watched = False

    def submit(self, call: _Call, at_once: bool) -> None:
        """Run a call in a thread.

        Args:
            call: The call.
            at_once: Whether it gets one more thread where others are under way.

        Raises:
            RuntimeError: There is no thread, and none is to be had; it does not run.
        """
        most = SLOW_THREADS if at_once else THREADS
        if self._threads < most and self._under_way >= self._threads:
            self._start()
        self._under_way += 1
        self._calls.put(call)
        if self._under_way > self._threads and not self._watched:
            self._watched, self._ended, self._took, self._still = True, 0, 0.0, 0
            self._loop.call_later(LOOK, self._watch)

    def close(self) -> None:
        """Let the threads end, each after what it does."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _start(self) -> None:
        try:
            Thread(target=self._run, name="asynctrack-offload", daemon=True).start()
        except RuntimeError:
            if not self._threads:
                raise
            return
        self._threads += 1

    def _watch(self) -> None:
        self._watched = self._under_way > self._threads
        if not self._watched:
            return
        # By the threads' own account: the loop may be late itself.
        with self._lock:
            ended, took = self._ended, self._took
            self._ended, self._took = 0, 0.0
        before, self._spent = self._spent, self._processor_time()
        self._still = 0 if ended or self._spent != before else self._still + 1
        more = 0
        if self._still == HANGING:
            self._still = 0
            more = min(self._threads, MAX_THREADS - self._threads)
        elif ended and took >= SLOW * ended:
            more = int(self._threads < SLOW_THREADS)
        for _ in range(more):
            self._start()
        self._loop.call_later(LOOK, self._watch)

    def _processor_time(self) -> float:
        """Return what all threads have had, in seconds; 0 where the system does not tell."""
        try:
            return sum(map(time.clock_gettime, list(self._clocks)))
        except OSError:
            return 0.0  # one has just ended

    def _hand_over(self) -> None:
        """Give back what has ended."""
        with self._lock:
            done, self._done = self._done, deque()
            self._told = False
        self._under_way -= len(done)
        for call in done:
            call.ended.set()

    def _thread_ended(self) -> None:
        """Do without a thread that had nothing to do; a call may have come in that moment."""
        self._threads -= 1
        if self._under_way <= self._threads:
            return
        try:
            self._start()
        except RuntimeError:
            while (call := self._take(0.0)) is not None:
                self._do(call)

    # -- in a thread --------------------------------------------------------------------------

    def _run(self) -> None:
        clock = time.pthread_getcpuclockid(get_ident()) if _HAS_CLOCKS else None
        if clock is not None:
            self._clocks.add(clock)
        with own_work():
            while (call := self._take(IDLE)) is not None:
                self._do(call)
                del call  # nothing is held while there is nothing to do
            self._clocks.discard(clock or 0)
            self._tell(self._thread_ended)

    def _take(self, seconds: float) -> _Call | None:
        try:
            return self._calls.get(timeout=seconds) if seconds else self._calls.get_nowait()
        except Empty:
            return None

    def _do(self, call: _Call) -> None:
        begun = time.monotonic()
        try:
            turns.begin()
            try:
                call.result = call.do()
            finally:
                turns.end()
        except BaseException as error:
            call.error = _passable(error)
        with self._lock:
            self._done.append(call)
            self._ended += 1
            self._took += time.monotonic() - begun
            told, self._told = self._told, True
        if not told:
            self._tell(self._hand_over)

    def _tell(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits


def _passable(error: BaseException) -> BaseException:
    """Return an error that a coroutine may raise: one that means what it says there."""
    if isinstance(error, (StopIteration, asyncio.CancelledError)):
        return RuntimeError(f"a call in a thread raised {type(error).__name__}")
    return error


_Lanes = dict[Hashable, _Threads]
_threads: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Lanes]] = WeakKeyDictionary()


async def offload(
    call: Callable[..., _T],
    *args: Any,
    abandon_on_cancel: bool = False,
    at_once: bool = False,
    lane: Hashable = None,
) -> _T:
    """Run what blocks in a thread; in this one where the interpreter starts none any more.

    Args:
        call: The function.
        *args: Its arguments.
        abandon_on_cancel: Whether a cancellation leaves it to itself instead of waiting for it.
        at_once: Whether it does not wait behind others, which may import for seconds.
        lane: Whose threads it takes: what waits for one server holds up nobody else.

    Returns:
        What it returns, also where a scope of anyio is cancelled meanwhile; it raises what it
        raises.
    """
    if anyio.current_effective_deadline() == _CANCELLED:
        await checkpoint_if_cancelled()
    return await _in_thread(lambda: call(*args), abandon_on_cancel, at_once, lane)


async def _in_thread(do: Callable[[], _T], abandon: bool, at_once: bool, lane: Hashable) -> _T:
    loop = asyncio.get_running_loop()
    lanes = _threads.setdefault(loop, {})
    threads = lanes.get(lane)
    if threads is None:
        threads = lanes[lane] = _Threads(loop)
    call = _Call(do)
    try:
        threads.submit(call, at_once)
    except RuntimeError:
        return do()
    try:
        await call.ended.wait()
    except asyncio.CancelledError:
        # asyncio cancels once; anyio again, at the next wait, so that what came is not lost.
        once = anyio.current_effective_deadline() > _CANCELLED
        if abandon:
            raise
        # The scope is made only now: it takes as long as all the rest of this in the loop.
        with anyio.CancelScope(shield=True):
            await call.ended.wait()
        if once:
            raise
    if call.error is not None:
        raise call.error
    result: _T = call.result
    return result


def close_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let the threads of an event loop end; called when it ends."""
    for threads in _threads.pop(loop, {}).values():
        threads.close()
