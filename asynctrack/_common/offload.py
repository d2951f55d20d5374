"""Blocking work of the engine's event loop in threads, also while the interpreter ends.

Two threads serve all trackers. Where a disk holds both up, others get one more each twentieth of a
second, so that one that hangs holds up nobody else.

A program that ends without leaving its ``with`` block is flushed while the interpreter shuts down,
and from Python 3.12 on no thread can be started any more by then. What cannot have a thread runs
in the engine's own one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from threading import current_thread
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import anyio.to_thread

from asynctrack._common.own import own_work
from asynctrack._common.turns import turns

THREADS: Final = 2
"""Threads while nothing hangs."""
MAX_THREADS: Final = 64
"""Threads at the most."""
STUCK: Final = 0.05
"""Seconds without the end of any call after which there is one more thread."""

_T = TypeVar("_T")


class _Threads:
    """Lets calls of one event loop into threads, first come, first served."""

    def __init__(self) -> None:
        self._free = THREADS
        self._more = 0  # threads besides these, while some hang
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._moved = 0.0
        self._watched = False

    async def __aenter__(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._watched:
            self._watched, self._moved = True, loop.time()
            loop.call_later(STUCK, self._watch, loop)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._give_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._moved = asyncio.get_running_loop().time()
        if self._more:
            self._more -= 1
        else:
            self._give_on()

    def _give_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = any(not turn.done() for turn in self._waiting)
        if not self._watched:
            return
        if loop.time() - self._moved >= STUCK and self._more < MAX_THREADS - THREADS:
            self._more += 1
            self._give_on()
        loop.call_later(STUCK, self._watch, loop)


_threads: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads]] = WeakKeyDictionary()


def _threads_here() -> _Threads:
    loop = asyncio.get_running_loop()
    threads = _threads.get(loop)
    if threads is None:
        threads = _threads[loop] = _Threads()
    return threads


async def offload(call: Callable[..., _T], *args: Any, abandon_on_cancel: bool = False) -> _T:
    """Run what blocks in a thread; in this one where the interpreter starts none any more.

    Args:
        call: The function.
        *args: Its arguments.
        abandon_on_cancel: Whether a cancellation leaves it to itself instead of waiting for it.

    Returns:
        What it returns; it raises what it raises.
    """
    begun = False

    def run() -> _T:
        nonlocal begun
        begun = True
        current_thread().name = "asynctrack-offload"  # for who looks at threads, or at log records
        with turns.taken(), own_work():
            return call(*args)

    try:
        return await anyio.to_thread.run_sync(
            run,
            abandon_on_cancel=abandon_on_cancel,
            limiter=_threads_here(),  # type: ignore[arg-type]  # it is entered and left, no more
        )
    except RuntimeError:
        if begun:
            raise
        return call(*args)
