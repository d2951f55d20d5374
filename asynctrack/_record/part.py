"""One part of what goes to the Run: whether it is under way, and when it may be tried again.

No part waits for another one that is in trouble: each has its own task, failures and backoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from asynctrack._common.retry import RetryPolicy
from asynctrack._errors import BackendError

AGAIN: Final = 0.1
"""Seconds after which a part is looked at again that is under way."""

_POLICY: Final = RetryPolicy(base=1.0, cap=30.0)


class Part:
    """One kind of write.

    Args:
        what: What it does, as the user is told where it fails.
        kept: What waits then, and that it does.
        work: Does it; takes whether it is the last time.
        progress: Returns something that changes with each request that has worked.
    """

    def __init__(
        self,
        what: str,
        kept: str,
        work: Callable[[bool], Coroutine[Any, Any, None]],
        progress: Callable[[], object],
    ) -> None:
        self.what = what
        self.kept = kept
        self._work = work
        self._progress = progress
        self._mark = progress()
        self.task: asyncio.Task[None] | None = None
        self.failures = 0
        self._due = float("-inf")
        self._started = float("-inf")

    def start(self, now: float, closed: bool) -> None:
        """Begin, unless it is under way or its time has not come."""
        if self.task is None and now >= self._due:
            self.task = asyncio.create_task(self._work(closed))
            self.task.add_done_callback(_asked)
            self._started = now

    def cancel(self) -> None:
        """Have done with it; what comes of it is nobody's any more."""
        if self.task is not None:
            self.task.cancel()

    def age(self, now: float) -> float:
        """Return how long it has been under way, in seconds."""
        return now - self._started

    def again(self, now: float) -> float | None:
        """Return the seconds after which to look at it again; None where it is done."""
        if self.task is not None:
            return AGAIN
        return max(AGAIN, self._due - now) if self.failures else None

    def ended(self, now: float, uniform: Callable[[], float]) -> BackendError | None:
        """Take note that the task has ended; return what it failed with."""
        task, self.task = self.task, None
        assert task is not None
        try:
            task.result()
        except BackendError as error:
            # Failures in a row: the requests before this one may have worked.
            moved = self._mark != (mark := self._progress())
            self.failures, self._mark = (1 if moved else self.failures + 1), mark
            self._due = now + _POLICY.wait(self.failures, uniform(), error.retry_after)
            return error
        self.failures, self._due = 0, float("-inf")
        return None


def _asked(task: asyncio.Task[None]) -> None:
    """Retrieve what it failed with; else asyncio logs that nobody did, of a cancelled one, too."""
    if not task.cancelled():
        task.exception()
