"""How many uploads may be under way: fewer when the service is in trouble, one when it is down.

Additive increase, multiplicative decrease, as TCP does it (Chiu and Jain, 1989): a success raises
the limit by one for each round of uploads, a failure halves it. After ``OPEN_AFTER`` failures in a
row nothing but a probe at a time is sent, after a wait with full jitter; its success lets all go on
at once. ``Flow`` decides, with the clock passed in; ``Gate`` waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from asynctrack._common.retry import RetryBudget, RetryPolicy

OPEN_AFTER: Final = 5
"""Failures in a row after which nothing but a probe at a time is sent."""
MAX_UPLOADS: Final = 32
"""Uploads at a time of all trackers of a process that reach the same store alike. One tracker has
``upload_concurrency`` of them."""
OUTAGE: Final = 5.0
"""Seconds of nothing but failures after which the retries of what waited are not counted."""
HALVE_INTERVAL: Final = 1.0
"""Seconds between two cuts of the limit: failures of one round of uploads count once."""


class Flow:
    """The decision: how many uploads, and from when on.

    Args:
        max_concurrency: Uploads at a time when all is well.
        policy: Waits between two probes.
    """

    def __init__(self, max_concurrency: int, policy: RetryPolicy | None = None) -> None:
        self._max = max_concurrency
        self._policy = policy or RetryPolicy(base=0.5, cap=10.0)
        self._limit = float(max_concurrency)
        self._failures = 0
        self._not_before = float("-inf")
        self._cut_at = float("-inf")
        self.opened = 0.0
        """When it last began to count as down."""

    @property
    def allowed(self) -> int:
        """How many uploads may be under way."""
        return 1 if self.open else max(1, int(self._limit))

    @property
    def open(self) -> bool:
        """Whether the service counts as down: a probe at a time."""
        return self._failures >= OPEN_AFTER

    def wait(self, now: float) -> float:
        """Return how long to wait before the next attempt may start, in seconds."""
        return max(0.0, self._not_before - now) if self.open else 0.0

    def succeeded(self) -> None:
        """Note a success."""
        self._failures = 0
        self._limit = min(float(self._max), self._limit + 1.0 / self._limit)

    def failed(self, now: float, uniform: float, retry_after: float | None) -> None:
        """Note a failure.

        Args:
            now: The monotonic clock, in seconds.
            uniform: A random number in [0, 1).
            retry_after: What the service asked for, in seconds, or None.
        """
        self._failures += 1
        if now - self._cut_at >= HALVE_INTERVAL:
            self._cut_at = now
            self._limit = max(1.0, self._limit / 2.0)
        if self._failures == OPEN_AFTER:
            self.opened = now
        if self.open:
            probes = self._failures - OPEN_AFTER + 1
            self._not_before = now + self._policy.wait(probes, uniform, retry_after)


@dataclass(eq=False, slots=True)
class _Turn:
    """One that waits to be let in."""

    first: bool
    fresh: bool = False
    let_in: bool = False
    future: asyncio.Future[None] | None = None


class Gate:
    """Lets uploads through as ``Flow`` decides; used in one event loop.

    Args:
        flow: The decision.
        budget: How many of the attempts may be retries.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        flow: Flow,
        *,
        budget: RetryBudget | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._flow = flow
        self._budget = budget or RetryBudget()
        self._monotonic = monotonic
        self._uniform = uniform
        self._under_way = 0
        self._queue: deque[_Turn] = deque()
        self._untried = 0  # of those in the queue
        self._refusals = True  # nothing but these since the last success
        self.passed = 0
        """Requests that have worked, also those that need not pass."""
        self._timer: asyncio.TimerHandle | None = None
        self._retries = asyncio.Lock()
        self._changed: asyncio.Event | None = None

    @property
    def down(self) -> bool:
        """Whether nothing has got through for a while: a probe at a time."""
        return self._flow.open

    async def enter(self, *, first: bool = True, fresh: bool = False) -> None:
        """Wait for the turn of an attempt; first come, first served.

        While the service counts as down, what has not been tried yet is the probe: an object that
        fails for a reason of its own says nothing of the others, and holds none of them up.

        Args:
            first: Whether it is the first one at its object.
            fresh: Whether its tracker has not failed since it got through. While others are refused
                for reasons of their own, it does not wait with them.
        """
        turn = _Turn(first, fresh)
        self._queue.append(turn)
        self._untried += first
        self._let_in()
        if turn.let_in:
            return
        turn.future = asyncio.get_running_loop().create_future()
        try:
            await turn.future
        except BaseException:
            if turn.let_in:
                self.leave()
            else:
                self._queue.remove(turn)
                self._untried -= first
                self._let_in()
            raise

    def _let_in(self) -> None:
        """Let in whose turn it is."""
        while self._queue and self._under_way < self._flow.allowed:
            turn = self._next()
            wait = self._flow.wait(self._monotonic())
            if wait > 0.0 and not (turn.fresh and self._refusals):
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = asyncio.get_running_loop().call_later(wait, self._let_in)
                return
            self._queue.remove(turn)
            self._untried -= turn.first
            self._under_way += 1
            if turn.first:
                self._budget.attempted()
            turn.let_in = True
            if turn.future is not None and not turn.future.done():
                turn.future.set_result(None)

    def _next(self) -> _Turn:
        """Return whose turn it is, of those that wait."""
        if self._flow.open and self._refusals:
            for turn in self._queue:
                if turn.fresh:
                    return turn
        if self._flow.open and self._untried:
            return next(one for one in self._queue if one.first)
        return self._queue[0]

    def leave(self) -> None:
        """Give the turn back without an outcome: the attempt was cancelled."""
        self._under_way -= 1
        self._let_in()
        self._notify()

    def succeeded(self) -> None:
        """Give the turn back: it worked."""
        if self._flow.open and self._monotonic() - self._flow.opened >= OUTAGE:
            self._budget.recovered()
        self._flow.succeeded()
        self._refusals = True
        self.passed += 1
        self.leave()

    def note_passed(self) -> None:
        """Note a request that has worked, and did not have to pass."""
        self.passed += 1

    def failed(self, retry_after: float | None, *, refused: bool = False) -> None:
        """Give the turn back: it failed, and will be tried again.

        Args:
            retry_after: What the service asked for, in seconds, or None.
            refused: Whether the service works, and has refused this one.
        """
        self._refusals = self._refusals and refused
        self._flow.failed(self._monotonic(), self._uniform(), retry_after)
        self.leave()

    def may_retry(self) -> bool:
        """Take a retry out of the budget, where there is one; probes of an outage are free."""
        return self._flow.open or self._budget.take(self._monotonic())

    async def afford_retry(self) -> None:
        """Wait until the budget has a retry, and take it; first come, first served."""
        async with self._retries:
            while not self._budget.take(self._monotonic()):
                if self._changed is None:
                    self._changed = asyncio.Event()
                with anyio.move_on_after(self._budget.wait(self._monotonic())):
                    await self._changed.wait()

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt; not longer than until the service is known to be back."""
        was_open = self._flow.open
        end = self._monotonic() + seconds
        while (left := end - self._monotonic()) > 0:
            if was_open and not self._flow.open:
                return
            was_open = was_open or self._flow.open
            if self._changed is None:
                self._changed = asyncio.Event()
            with anyio.move_on_after(left):
                await self._changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
