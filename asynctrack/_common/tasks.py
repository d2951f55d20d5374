"""Tasks that belong together: an error in one ends all, and whoever runs them learns of it.

``anyio``'s task group would do, and takes 0.1 ms for each task, with a scope and an event of its
own; and it starts none from a callback of the loop, which is how a tracker is spoken to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from asynctrack._common.wakeup import Wakeup

AGAIN: Final = 1.0
"""Seconds after which one that goes on is cancelled again: some libraries lose a cancellation."""


class Tasks:
    """A group of tasks, run once; used in one loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._dismissed: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._ended = Wakeup()
        self._again: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether more tasks are taken."""
        return self._running

    async def run(self, first: Coroutine[Any, Any, None]) -> None:
        """Run a task, and all that are started meanwhile, to the end of the last.

        Raises:
            BaseException: What the first of them raised that failed; the others are cancelled.
        """
        self._running = True
        self.start(first)
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            self.cancel()
            await self._ended.wait()
            raise
        finally:
            self._running = False
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else it holds its own traceback, until a collection

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Start a task; None where all have ended, or are to."""
        if not self._running:
            coroutine.close()
            return None
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def end(self, task: asyncio.Task[None] | None) -> None:
        """End a task that is not needed any more; nothing for None."""
        if task is not None and not task.done():
            self._dismissed.add(task)
            task.cancel()

    def cancel(self) -> None:
        """End all tasks, also the one that calls this."""
        self._running = False
        for task in list(self._tasks):
            task.cancel()
        if self._again is not None:
            self._again.cancel()
        if self._tasks:
            self._again = asyncio.get_running_loop().call_later(AGAIN, self.cancel)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error: BaseException | None = None
        if not task.cancelled():
            error = task.exception()
        elif self._running and task not in self._dismissed:
            error = RuntimeError("a task of asynctrack's was cancelled, and not by asynctrack")
        self._dismissed.discard(task)
        if error is not None:
            self._error = self._error or error
            self.cancel()
        if not self._tasks:
            self._ended.set()
            if self._again is not None:
                self._again.cancel()
