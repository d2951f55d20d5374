"""The bounded buffer between the callbacks and the worker.

It counts everything that has been accepted and not yet acknowledged, in bytes and in events: what
waits here, the open batch, uploads in flight and those waiting for a retry. Accepting an event
gives it the next sequence number and its place in the store (memory, or a segment of the spool),
under one re-entrant lock, so that the order in the store is the order of the numbers and the
counters always add up; the lock is held for a few assignments and never while anything waits.

A finalizer that logs while this very thread holds the lock comes in again: its event is put aside
and accepted by the outer call as that leaves, in order, and it never waits.

A callback that finds it full joins a queue of *waiters*. Whoever makes room accepts their events
for them, first come first served, so a waiter is woken once and never has to try again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from typing import Final, Protocol

from asynctrack._format import line_prefix, number_line
from asynctrack._segment import Segment
from asynctrack._store import MemoryPiece, SegmentPiece, Store

LINE_OVERHEAD: Final = 80
"""Bytes that a line is longer than its body, at the most; what room for it is asked with."""

SEGMENT_WAIT: Final = 1.0
"""Seconds that lines in memory wait for their segment at the most before they are uploaded from
there: it takes a millisecond, unless the disk is held up."""

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
    spooled: int
    pending: int
    waiting_bytes: int
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


class _Section:
    """The buffer's lock for everything but the hot path: notes that it is held."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def __enter__(self) -> None:
        self._buffer._lock.acquire()
        self._buffer._held += 1

    def __exit__(self, *_: object) -> None:
        self._buffer._leave()
        self._buffer._lock.release()


class Buffer:
    """Bounded in bytes and events, thread-safe, re-entrant.

    Args:
        writer_id: Who accepts the events.
        store: Where they are kept.
        max_bytes: Bound of what is in memory, in bytes; without ``spool_bytes``, of all.
        max_events: Bound in events; with ``spool_bytes``, of what is in memory.
        spool_bytes: Bound of all, in bytes, where a full memory goes on to disk; None where it
            does not.
        reserve: Who waits for room leaves the reserved tenth alone, too.
        wake: Wakes the worker; called from any thread, must not block.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        writer_id: str,
        store: Store,
        max_bytes: int,
        max_events: int,
        spool_bytes: int | None = None,
        reserve: bool = False,
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.RLock()
        self._held = 0  # how often the thread that has the lock has it
        self._section = _Section(self)
        self._deferred: deque[bytes] = deque()
        self._prefix = line_prefix(writer_id)
        self._store = store
        self._oldest: float | None = None
        self._waiters: deque[Waiter] = deque()
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._spool_bytes = spool_bytes
        self._reserve = reserve
        self._disk_takes = True  # as far as is known
        # As long as less than this waits, in memory or not, whatever comes has room.
        bound = max_bytes if spool_bytes is None else min(max_bytes, spool_bytes)
        self._ample_bytes = bound - bound * RESERVED_TENTHS // 10 - LINE_OVERHEAD
        self._ample_events = max_events - max_events * RESERVED_TENTHS // 10
        self._wake = wake
        self._monotonic = monotonic
        self._closed: str | None = None
        self._accepted = 0
        self._delivered = 0
        self._dead_lettered = 0
        self._settled = 0  # delivered or dead-lettered
        self._waiting_bytes = 0  # of what is accepted and not settled; below, what of it is cut
        self._cut_durable = 0
        self._cut_memory_bytes = 0
        self._cut_memory_events = 0
        # Added to without a call in between, after which a signal handler could run.
        self._dropped: defaultdict[str, int] = defaultdict(int)

    # -- the callbacks' side ------------------------------------------------------------------

    def put_nowait(self, body: bytes, sheddable: bool = False) -> bool:
        """Accept an event if there is room and nobody waits for room before it.

        Args:
            body: The encoded event.
            sheddable: It may not use the part of the buffer reserved for ends and errors.

        Returns:
            Whether it was accepted. When not, nothing was counted yet: wait or ``drop``.
        """
        with self._lock:
            if self._held:
                self._deferred.append(body)
                return True
            if self._waiters or self._closed:
                return False
            # Nearly always there is room for anything, which takes two comparisons to tell.
            if (
                self._accepted - self._settled >= self._ample_events
                or self._waiting_bytes + len(body) > self._ample_bytes
            ) and not self._has_room(len(body), sheddable):
                return False
            self._held = 1
            try:
                wake = self._accept(body)
            finally:
                self._held = 0
                if self._deferred:
                    self._accept_deferred()
        if wake:
            self._wake()
        return True

    def put_ahead(self, body: bytes) -> bool:
        """Accept an event if there is room for it, also before those who wait for room.

        Returns:
            Whether it was accepted. When not, nothing was counted yet.
        """
        if self.put_nowait(body):
            return True
        with self._section:
            if self._closed or not self._has_room(len(body), False):
                return False
            self._accept(body)
        self._wake()
        return True

    def enqueue(self, waiter: Waiter) -> str | None:
        """Accept a waiter's event now, or let it wait for room.

        Returns:
            None when it waits or was accepted (its ``finish`` is called in both cases), or the
            reason why it can only be dropped.
        """
        with self._section:
            if self._closed:
                return self._closed
            if self._waiters or not self._has_room(len(waiter.body), self._reserve):
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
        with self._section:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                return False
            return True

    def disk_may_help(self, length: int) -> bool:
        """Tell whether waiting for the next segment makes room for an event of this many bytes."""
        length += LINE_OVERHEAD
        return (
            self._spool_bytes is not None
            and self._disk_takes
            and length <= self._max_bytes
            and self._waiting_bytes + length <= self._spool_bytes
        )

    def drop(self, reason: str, events: int = 1) -> None:
        """Count events that were not accepted."""
        with self._section:
            self._dropped[reason] += events

    # -- the worker's side --------------------------------------------------------------------

    def take(self) -> MemoryPiece | SegmentPiece | None:
        """Cut the oldest piece; None when nothing waits, or what waits is about to go to disk.

        What was cut never goes to disk any more, however long its upload takes.
        """
        with self._section:
            if self._store.awaits_segment and self._disk_takes:
                if self._oldest is None or self._monotonic() < self._oldest + SEGMENT_WAIT:
                    return None
                self._disk_takes = False  # it hangs; better in memory and delivered than held back
            piece = self._store.cut()
            if piece is None:
                return None
            self._oldest = None if self._store.empty else self._monotonic()
            if piece.durable:
                self._cut_durable += piece.events
            else:
                self._cut_memory_bytes += piece.size
                self._cut_memory_events += piece.events
            return piece

    def settle(self, piece: MemoryPiece | SegmentPiece, *, refused: int = 0) -> None:
        """Free the room of a piece: acknowledged, but for the events refused for good."""
        with self._section:
            events = piece.events
            self._settled += events
            self._waiting_bytes -= piece.size
            if piece.durable:
                self._cut_durable -= events
            else:
                self._cut_memory_bytes -= piece.size
                self._cut_memory_events -= events
            self._delivered += events - refused
            self._dead_lettered += refused
        self._admit()

    def close(self, reason: str) -> int:
        """Refuse events from now on, for this reason; what waits for room is dropped with it.

        Returns:
            How many events were accepted in all.
        """
        with self._section:
            self._closed = self._closed or reason
            waiters, self._waiters = self._waiters, deque()
            for _ in waiters:
                self._dropped[reason] += 1
            accepted = self._accepted
        for waiter in waiters:
            waiter.finish(False)
        return accepted

    def cut_state(self) -> tuple[int, float | None, bool]:
        """Return events to be cut, when the first came in, and whether to cut them at once.

        At once: a piece is full, or a callback waits for room.
        """
        with self._section:
            hurry = bool(self._waiters) or self._store.full_pieces > 0
            return self._store.events, self._oldest, hurry

    def segment_wanted(self) -> tuple[int, int] | None:
        """Return the size in bytes and events of a segment that is wanted now, or None."""
        with self._section:
            return self._store.wanted

    def supply(self, segment: Segment) -> Segment | None:
        """Hand over a segment; it comes back when there is no use for it any more."""
        with self._section:
            back = self._store.supply(segment)
        self._admit()  # what went to disk made room in memory
        return back

    def disk_answered(self, takes: bool) -> None:
        """Note whether the disk takes segments; where it does not, nobody waits for one."""
        refused: list[Waiter] = []
        with self._section:
            self._disk_takes = takes
            if not takes and self._spool_bytes is not None and self._waiters:
                refused, self._waiters = list(self._waiters), deque()
                self._dropped["buffer_full"] += len(refused)
        for waiter in refused:
            waiter.finish(False)

    def segments(self) -> list[Segment]:
        """Return the segments that hold lines and are not cut, oldest first."""
        with self._section:
            return self._store.segments()

    def take_spare(self) -> Segment | None:
        """Give the spare segment back, at the end."""
        with self._section:
            return self._store.take_spare()

    @property
    def closed_reason(self) -> str | None:
        """Why it refuses events, or None."""
        return self._closed

    def counts(self) -> BufferCounts:
        """Return all counters, read together."""
        with self._section:
            spooled = self._store.durable_events + self._cut_durable
            return BufferCounts(
                self._accepted,
                self._delivered,
                self._dead_lettered,
                spooled,
                self._accepted - self._settled - spooled,
                self._waiting_bytes,
                dict(self._dropped),
                len(self._waiters),
            )

    # -- inside -------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Give the section up; accept what came in while it was held."""
        self._held -= 1
        if self._deferred and not self._held:
            self._accept_deferred()

    def _accept_deferred(self) -> None:
        """Accept what finalizers put aside; the lock is held, and nobody is in a section."""
        while self._deferred:
            self._held = 1
            # Looked at again: a signal handler may have come in between, and accepted all of it.
            if self._deferred:
                body = self._deferred.popleft()
                if self._closed or not self._has_room(len(body), False):
                    reason = self._closed or "buffer_full"
                    self._dropped[reason] += 1
                elif self._accept(body):
                    self._wake()
            self._held = 0  # before looking again: from here on they come in by themselves

    def _admit(self) -> None:
        """Accept for those who wait what there is room for now."""
        finished: list[Waiter] = []
        with self._section:
            while self._waiters and self._has_room(len(self._waiters[0].body), self._reserve):
                waiter = self._waiters.popleft()
                self._accept(waiter.body)
                finished.append(waiter)
        for waiter in finished:
            waiter.finish(True)
        if finished:
            self._wake()

    def _has_room(self, length: int, sheddable: bool) -> bool:
        waiting = self._accepted - self._settled
        if not waiting:
            return True  # an event larger than the whole buffer passes when it is alone
        length += LINE_OVERHEAD
        max_bytes, max_events = self._max_bytes, self._max_events
        if sheddable:
            max_bytes -= max_bytes * RESERVED_TENTHS // 10
            max_events -= max_events * RESERVED_TENTHS // 10
        if self._spool_bytes is None:
            return self._waiting_bytes + length <= max_bytes and waiting < max_events
        store = self._store
        if self._waiting_bytes + length > self._spool_bytes:
            return False
        return (
            store.memory_bytes + self._cut_memory_bytes + length <= max_bytes
            and store.events - store.durable_events + self._cut_memory_events < max_events
        ) or store.durable_room(length)

    def _accept(self, body: bytes) -> bool:
        """Give the event its number and its place; tell whether the worker has to know."""
        store = self._store
        first = store.empty
        if first:
            self._oldest = self._monotonic()
        self._accepted = seq = self._accepted + 1
        line = number_line(self._prefix, seq, body)
        rolled = store.append(seq, line)
        self._waiting_bytes += len(line)
        # When the delay of a batch starts and when a batch is full; never for each event.
        return first or rolled
