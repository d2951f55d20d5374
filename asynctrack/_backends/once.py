"""What several want at the same time is done once, also where some of them are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar, cast

from asynctrack._errors import BackendError, TransientError

_T = TypeVar("_T")


class Once:
    """Does what several want at the same time once, and gives all of them the result."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def once(self, what: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Return what ``work`` returns, or what another one's returns that is under way.

        Who is cancelled leaves it to the others.
        """
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = asyncio.create_task(work())
            task.add_done_callback(lambda _: self._done(what, task))
        try:
            return cast("_T", await asyncio.shield(task))
        except asyncio.CancelledError:
            if task.cancelled():
                raise closed() from None
            raise

    def cancel(self) -> None:
        """Cancel what is under way: those who wait get a ``BackendError``."""
        for task in self._tasks.values():
            task.cancel()

    def _done(self, what: Hashable, task: asyncio.Task[Any]) -> None:
        del self._tasks[what]
        has_result(task)  # asks for its error, which else is reported as lost


def has_result(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task has ended well; its error counts as seen."""
    return task.done() and not task.cancelled() and task.exception() is None


def closed() -> BackendError:
    """Return the error of who asks for what is closed."""
    return TransientError("Closed", "the connections to AWS are closed")
