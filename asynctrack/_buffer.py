"""The bounded buffer between the callbacks and the worker.

It counts everything that has been accepted and not yet acknowledged, in bytes and in events: what
waits here, the open batch, uploads in flight and those waiting for a retry. Accepting an event
gives it the next sequence number, under one re-entrant lock, so that the order in the buffer is
the order of the numbers and the counters always add up; the lock is held for a few assignments
and never while anything waits.

A callback that finds it full joins a queue of *waiters*. Whoever makes room accepts their events
for them, first come first served, so a waiter is woken once and never has to try again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from typing import Final, Protocol

from asynctrack._artifact import Batch

LINE_OVERHEAD: Final = 80
"""Bytes added to a body for its line prefix and its bookkeeping, as the buffer counts it."""

RESERVED_TENTHS: Final = 1
"""Tenths of the buffer that only ends, errors and the user's own values may fill, so that a
tracker that has to drop sheds starts and tokens first."""


class Waiter(Protocol):
    """A callback that waits for room."""

    body: bytes

    def finish(self, accepted: bool) -> None:
        """Tell it how it ended; called once, from any thread, without the buffer's lock."""


@dataclass(frozen=True, slots=True)
class BufferCounts:
    """The buffer's counters, read together."""

    accepted: int
    delivered: int
    dead_lettered: int
    pending: int
    pending_bytes: int
    dropped: dict[str, int]
    waiting: int


class AsyncWaiter:
    """Waits in an event loop, any event loop."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[bool] = self._loop.create_future()

    def finish(self, accepted: bool) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set, accepted)
        except RuntimeError:
            pass  # its loop was closed meanwhile: nobody waits any more

    def _set(self, accepted: bool) -> None:
        if not self.outcome.done():
            self.outcome.set_result(accepted)


class ThreadWaiter:
    """Blocks its thread."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.outcome: ThreadFuture[bool] = ThreadFuture()

    def finish(self, accepted: bool) -> None:
        self.outcome.set_result(accepted)


class Buffer:
    """Bounded in bytes and events, thread-safe, re-entrant.

    Args:
        max_bytes: Bound in bytes.
        max_events: Bound in events.
        batch_bytes: The worker is woken when this much waits to be cut, in bytes.
        batch_events: The same, in events.
        wake: Wakes the worker; called from any thread, must not block.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_events: int,
        batch_bytes: int,
        batch_events: int,
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.RLock()  # re-entrant: a finalizer may log while it is held
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._oldest: float | None = None
        self._waiters: deque[Waiter] = deque()
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._batch_bytes = batch_bytes
        self._batch_events = batch_events
        self._wake = wake
        self._monotonic = monotonic
        self._closed: str | None = None
        self._accepted = 0
        self._taken = 0
        self._delivered = 0
        self._dead_lettered = 0
        self._pending = 0
        self._pending_bytes = 0
        self._dropped: dict[str, int] = {}

    # -- the callbacks' side ------------------------------------------------------------------

    def put_nowait(self, body: bytes, *, sheddable: bool = False) -> bool:
        """Accept an event if there is room and nobody waits for room before it.

        Args:
            body: The encoded event.
            sheddable: It may not use the part of the buffer reserved for ends and errors.

        Returns:
            Whether it was accepted. When not, nothing was counted yet: wait or ``drop``.
        """
        with self._lock:
            if self._waiters or self._closed or not self._has_room(len(body), sheddable):
                return False
            wake = self._accept(body)
        if wake:
            self._wake()
        return True

    def enqueue(self, waiter: Waiter) -> str | None:
        """Accept a waiter's event now, or let it wait for room.

        Returns:
            None when it waits or was accepted (its ``finish`` is called in both cases), or the
            reason why it can only be dropped.
        """
        with self._lock:
            if self._closed:
                return self._closed
            if self._waiters or not self._has_room(len(waiter.body), False):
                self._waiters.append(waiter)
                accepted = False
            else:
                self._accept(waiter.body)
                accepted = True
        self._wake()
        if accepted:
            waiter.finish(True)
        return None

    def withdraw(self, waiter: Waiter) -> bool:
        """Take a waiter out of the queue; False when its event was accepted already."""
        with self._lock:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                return False
            return True

    def drop(self, reason: str, events: int = 1) -> None:
        """Count events that were not accepted."""
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + events

    # -- the worker's side --------------------------------------------------------------------

    def take(self) -> Batch | None:
        """Cut the next batch: what waits, up to the batch limits; None when nothing waits."""
        with self._lock:
            bodies: list[bytes] = []
            size = 0
            while self._queue and len(bodies) < self._batch_events:
                cost = len(self._queue[0]) + LINE_OVERHEAD
                if bodies and size + cost > self._batch_bytes:
                    break
                bodies.append(self._queue.popleft())
                size += cost
            if not bodies:
                return None
            self._queued_bytes -= size
            first_seq = self._taken + 1
            self._taken += len(bodies)
            if not self._queue:
                self._oldest = None
            return Batch(first_seq, bodies, size)

    def settle(self, batch_events: int, batch_bytes: int, *, delivered: bool) -> None:
        """Free the room of a batch that was acknowledged, or that was given up for good."""
        finished: list[Waiter] = []
        with self._lock:
            self._pending -= batch_events
            self._pending_bytes -= batch_bytes
            if delivered:
                self._delivered += batch_events
            else:
                self._dead_lettered += batch_events
            while self._waiters and self._has_room(len(self._waiters[0].body), False):
                waiter = self._waiters.popleft()
                self._accept(waiter.body)
                finished.append(waiter)
        for waiter in finished:
            waiter.finish(True)
        if finished:
            self._wake()

    def close(self, reason: str) -> int:
        """Refuse events from now on, for this reason; what waits for room is dropped with it.

        Returns:
            How many events were accepted in all.
        """
        with self._lock:
            self._closed = self._closed or reason
            waiters, self._waiters = self._waiters, deque()
            for _ in waiters:
                self._dropped[reason] = self._dropped.get(reason, 0) + 1
            accepted = self._accepted
        for waiter in waiters:
            waiter.finish(False)
        return accepted

    def cut_state(self) -> tuple[int, int, float | None, bool]:
        """Return events and bytes to be cut, when the first came in, and whether room is wanted."""
        with self._lock:
            return len(self._queue), self._queued_bytes, self._oldest, bool(self._waiters)

    @property
    def closed_reason(self) -> str | None:
        """Why it refuses events, or None."""
        return self._closed

    def counts(self) -> BufferCounts:
        """Return all counters, read together."""
        with self._lock:
            return BufferCounts(
                self._accepted,
                self._delivered,
                self._dead_lettered,
                self._pending,
                self._pending_bytes,
                dict(self._dropped),
                len(self._waiters),
            )

    # -- with the lock held -------------------------------------------------------------------

    def _has_room(self, length: int, sheddable: bool) -> bool:
        if not self._pending:
            return True  # an event larger than the whole buffer passes when it is alone
        max_bytes, max_events = self._max_bytes, self._max_events
        if sheddable:
            max_bytes -= max_bytes * RESERVED_TENTHS // 10
            max_events -= max_events * RESERVED_TENTHS // 10
        size = self._pending_bytes + length + LINE_OVERHEAD
        return size <= max_bytes and self._pending < max_events

    def _accept(self, body: bytes) -> bool:
        """Give the event its number and its place; tell whether the worker has to know."""
        size = len(body) + LINE_OVERHEAD
        first = not self._queue
        if first:
            self._oldest = self._monotonic()
        before = self._queued_bytes
        self._queue.append(body)
        self._queued_bytes = before + size
        self._accepted += 1
        self._pending += 1
        self._pending_bytes += size
        # Once when the delay of a batch starts, once when a batch is full; never for each event.
        return (
            first
            or before < self._batch_bytes <= before + size
            or len(self._queue) == self._batch_events
        )
