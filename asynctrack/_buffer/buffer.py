"""The bounded buffer between the callbacks and the worker.

It counts everything that has been accepted and not yet acknowledged, in bytes and in events: what
waits here, the open batch, uploads in flight and those waiting for a retry. Accepting an event
gives it the next sequence number and its place in the store (memory, or a segment of the spool),
under one re-entrant lock, so that the order in the store is the order of the numbers and the
counters always add up; the lock is held for a few assignments and never while anything waits.

A finalizer that logs while this very thread holds the lock comes in again: its event is put aside
and accepted by the outer call as that leaves, in order, and it never waits.

Where an event is not ready to be stored (``packed``), it and what comes behind it waits for the
worker to finish it, in memory. No callback touches the store as long as anything waits so: the
worker writes it without the lock.

A callback that finds it full joins a queue of *waiters*. Whoever makes room accepts their events
for them, first come first served, so a waiter is woken once and never has to try again.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from asynctrack._buffer.ledger import BufferCounts, Ledger, Room
from asynctrack._buffer.packed import Packed
from asynctrack._buffer.segment import Segment
from asynctrack._buffer.store import LINE_OVERHEAD, MemoryPiece, SegmentPiece, Store
from asynctrack._buffer.waiters import Waiter
from asynctrack._format import line_prefix, number_line

INLINE: Final = 64 * 1024
"""Bytes of values that a callback writes itself. More is the worker's."""
SEGMENT_WAIT: Final = 1.0
"""Seconds that lines in memory wait for their segment at the most before they are uploaded from
there: it takes a millisecond, unless the disk is held up."""


class _Section:
    """The buffer's lock for everything but the hot path: notes that it is held."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def __enter__(self) -> None:
        self._buffer._lock.acquire()
        self._buffer._held += 1

    def __exit__(self, *_: object) -> None:
        wake = self._buffer._leave()
        self._buffer._lock.release()
        if wake:
            self._buffer._wake()


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
        self._deferred: deque[bytes | Packed] = deque()
        # What is not in the store yet: its number, itself, the bytes that are counted for it.
        self._unfinished: deque[tuple[int, bytes | Packed, int]] = deque()
        self._finishing = threading.RLock()
        self._finishes = False
        self._prefix = line_prefix(writer_id)
        self._store = store
        self._oldest: float | None = None
        self._waiters: deque[Waiter] = deque()
        self._ledger = Ledger(store)
        self._room = Room(self._ledger, store, max_bytes, max_events, spool_bytes)
        self._ample_bytes = self._room.ample_bytes
        self._ample_events = self._room.ample_events
        self._reserve = reserve
        self._disk_takes = True  # as far as is known
        self._asked: float | None = None  # when the next segment was, before a cut
        self._wake = wake
        self._monotonic = monotonic
        self._closed: str | None = None
        self.wake_always = False
        """Whether each event wakes the worker: while there is none, so that one is looked for."""

    # -- the callbacks' side ------------------------------------------------------------------

    def put_nowait(self, body: bytes | Packed, sheddable: bool = False) -> bool:
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
            ledger = self._ledger
            if (
                ledger.accepted - ledger.settled >= self._ample_events
                or ledger.waiting_bytes + len(body) > self._ample_bytes
            ) and not self._fits(body, sheddable):
                return False
            self._held = 1
            try:
                wake = self._accept(body)
            finally:
                self._held = 0
                late = self._accept_deferred() if self._deferred else False
        if wake or late:
            self._wake()
        return True

    def put_ahead(self, body: bytes | Packed) -> bool:
        """Accept an event if there is room for it, also before those who wait for room.

        Returns:
            Whether it was accepted. When not, nothing was counted yet.
        """
        if self.put_nowait(body):
            return True
        with self._section:
            if self._closed or not self._fits(body, False):
                return False
            self._accept(body)
        self._wake()
        return True

    def put_together(
        self, bodies: Sequence[bytes | Packed], begin: Callable[[int], None]
    ) -> int | None:
        """Accept events, all of them or none, in order and with none of others between them.

        Args:
            bodies: The encoded events.
            begin: Called with the number of the first one before it is accepted. None of them is
                cut before this returns.

        Returns:
            The number of the first one. None when they were not accepted: there is no room now.
        """
        with self._lock:
            if self._held:
                return None  # a finalizer, in the midst of accepting another one
            with self._section:
                length = sum(len(body) + LINE_OVERHEAD for body in bodies)
                if self._closed or not self._fits_together(length, len(bodies)):
                    return None
                first_seq = self._ledger.accepted + 1
                begin(first_seq)
                for body in bodies:
                    self._accept(body)
        self._wake()
        return first_seq

    @property
    def stored_through(self) -> int:
        """The number up to which all that was accepted is in segments, or was cut."""
        with self._lock:
            if self._held:
                return 0  # a finalizer, in the midst of it: nothing is known
            with self._section:
                first = self._store.first_in_memory
                if first is None and self._unfinished:
                    first = self._unfinished[0][0]  # behind what is in the store
                return (self._ledger.accepted + 1 if first is None else first) - 1

    def enqueue(self, waiter: Waiter) -> str | None:
        """Accept a waiter's event now, or let it wait for room.

        Returns:
            None when it waits or was accepted (its ``finish`` is called in both cases), or the
            reason why it can only be dropped.
        """
        with self._section:
            if self._closed:
                return self._closed
            if self._waiters or not self._fits(waiter.body, self._reserve):
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
        return self._disk_takes and self._room.disk_may_help(length)

    def drop(self, reason: str, events: int = 1) -> None:
        """Count events that were not accepted."""
        with self._section:
            self._ledger.dropped[reason] += events

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
            self._ledger.cut(piece)
            return piece

    def may_cut(self) -> bool:
        """Tell whether lines that come after a cut find a segment, as far as the disk has one.

        Else the next one is wanted: until it is there, they would be in memory only.
        """
        with self._section:
            if not (self._disk_takes and self._store.want_next()):
                self._asked = None
                return True
            now = self._monotonic()
            self._asked = now if self._asked is None else self._asked
            self._disk_takes = now < self._asked + SEGMENT_WAIT
            return not self._disk_takes

    def settle(self, piece: MemoryPiece | SegmentPiece, *, refused: int = 0) -> None:
        """Free the room of a piece: acknowledged, but for the events refused for good."""
        with self._section:
            self._ledger.settle(piece, refused)
        self._admit()

    def close(self, reason: str) -> int:
        """Refuse events from now on, for this reason; what waits for room is dropped with it.

        Returns:
            How many events were accepted in all.
        """
        with self._section:
            self._closed = self._closed or reason
            self._store.close()
            accepted = self._ledger.accepted
        self.dismiss(reason)
        return accepted

    def dismiss(self, reason: str) -> None:
        """Drop what waits for room, for this reason: nobody makes any."""
        with self._section:
            waiters, self._waiters = self._waiters, deque()
            if waiters:
                self._ledger.dropped[reason] += len(waiters)
        for waiter in waiters:
            waiter.finish(False)

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

    def lines_in_memory(self) -> tuple[int, int]:
        """Return the size in bytes and the lines of the oldest piece that waits for a segment."""
        with self._section:
            return self._store.waiting

    def low_segment(self) -> Segment | None:
        """Return the segment that is being filled where it is to grow now, or None."""
        with self._section:
            return self._store.low

    def supply(self, segment: Segment) -> Segment | None:
        """Hand over a segment; it comes back when there is no use for it any more.

        Raises:
            OSError: The disk does not take what is to go there; it stays in memory.
        """
        with self._section:
            piece = self._store.supply(segment)
            if piece is None:
                return None if self._store.take_as_spare(segment) else segment
            lines = piece.lines.copy()
        # Without the lock, as it may be megabytes; what has come meanwhile is added behind it.
        segment.fill(lines)
        written = len(lines)
        while True:
            with self._section:
                lines = piece.lines[written:]
                if not lines:
                    back = None if self._store.moved(piece, segment) else segment
                    break
            for line in lines:
                if not segment.append(line):
                    raise segment.failed or OSError(errno.ENOSPC, "No space left in its segment")
            written += len(lines)
        self._admit()  # what went to disk made room in memory
        return back

    def disk_answered(self, takes: bool) -> None:
        """Note whether the disk takes segments; where it does not, nobody waits for one."""
        refused: list[Waiter] = []
        with self._section:
            self._disk_takes = takes
            if not takes and self._room.spools and self._waiters:
                refused, self._waiters = list(self._waiters), deque()
                self._ledger.dropped["buffer_full"] += len(refused)
        for waiter in refused:
            waiter.finish(False)

    def segments(self) -> list[Segment]:
        """Return the segments that hold lines and are not cut, oldest first."""
        with self._section:
            return self._store.segments()

    def take_failed(self) -> list[Segment]:
        """Return the segments that took no more lines because of the disk or others, once each."""
        with self._section:
            return self._store.take_failed()

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
            return self._ledger.counts(len(self._waiters))

    # -- inside -------------------------------------------------------------------------------

    def _leave(self) -> bool:
        """Give the section up; accept what came in while it was held, as ``_accept_deferred``."""
        self._held -= 1
        return bool(self._deferred) and not self._held and self._accept_deferred()

    def _accept_deferred(self) -> bool:
        """Accept what finalizers put aside; the lock is held, and nobody is in a section.

        Returns:
            Whether the worker has to know, once the lock is given back.
        """
        wake = False
        while self._deferred:
            self._held = 1
            # Looked at again: a signal handler may have come in between, and accepted all of it.
            if self._deferred:
                body = self._deferred.popleft()
                if self._closed or not self._fits(body, False):
                    reason = self._closed or "buffer_full"
                    self._ledger.dropped[reason] += 1
                elif self._accept(body):
                    wake = True
            self._held = 0  # before looking again: from here on they come in by themselves
        return wake

    def _admit(self) -> None:
        """Accept for those who wait what there is room for now."""
        finished: list[Waiter] = []
        with self._section:
            while self._waiters and self._fits(self._waiters[0].body, self._reserve):
                waiter = self._waiters.popleft()
                self._accept(waiter.body)
                finished.append(waiter)
        for waiter in finished:
            waiter.finish(True)
        if finished:
            self._wake()

    def _accept(self, body: bytes | Packed) -> bool:
        """Give the event its number and its place; tell whether the worker has to know."""
        first = self._oldest is None
        if first:
            self._oldest = self._monotonic()
        ledger = self._ledger
        ledger.accepted = seq = ledger.accepted + 1
        if type(body) is not bytes or self._unfinished:
            return self._accept_packed(seq, body) or first
        line = number_line(self._prefix, seq, body)
        rolled = self._store.append(seq, line)
        ledger.waiting_bytes += len(line)
        # When the delay of a batch starts and when a batch is full; never for each event.
        return first or rolled or self.wake_always

    def _accept_packed(self, seq: int, body: bytes | Packed) -> bool:
        """Store an event with values, or leave it to the worker; tell whether that has to know."""
        ledger = self._ledger
        if not self._unfinished and not isinstance(body, bytes) and self._at_once(body):
            return self._store_packed(seq, body) or self.wake_always
        length = self._length(body) + LINE_OVERHEAD
        self._unfinished.append((seq, body, length))
        ledger.waiting_bytes += length
        ledger.unfinished_bytes += length
        ledger.unfinished_events += 1
        return len(self._unfinished) == 1 or self.wake_always

    def _at_once(self, body: Packed) -> bool:
        return body.ready and self._store.missing(body) <= INLINE

    def _store_packed(self, seq: int, body: Packed) -> bool:
        """Put an event into the store; tell whether the worker has to know."""
        before = self._store.full_pieces
        while True:
            piece = self._store.place(seq, body)
            lines = body.lines(self._prefix, seq, piece.held)
            taken = piece.append(lines)
            if self._store.placed(seq, body, taken):
                self._ledger.waiting_bytes += len(lines)
                return taken != 1 or self._store.full_pieces != before

    def _fits(self, body: bytes | Packed, sheddable: bool) -> bool:
        at_once = not self._unfinished and (isinstance(body, bytes) or self._at_once(body))
        return self._room.fits(self._length(body), sheddable, at_once)

    def _fits_together(self, length: int, events: int) -> bool:
        return not self._waiters and self._room.fits_together(length, events)

    def _length(self, body: bytes | Packed) -> int:
        """Return the bytes that an event takes, with the values that are written for it."""
        if isinstance(body, bytes) or not body.ready:
            return len(body)
        return len(body.body) + self._store.missing(body)

    # -- what callbacks have left to the worker -----------------------------------------------

    @property
    def unfinished(self) -> bool:
        """Whether events wait to be finished."""
        return bool(self._unfinished)

    def finish(self) -> None:
        """Put what is not in the store yet there. Blocks; for any thread, one at a time."""
        with self._finishing:
            if self._finishes:
                return  # a finalizer, in the midst of it
            self._finishes, some = True, False
            try:
                while self._finish_next():
                    some = True
            finally:
                self._finishes = False
        if some:
            self._admit()
            self._wake()

    def _finish_next(self) -> bool:
        with self._section:
            if not self._unfinished:
                return False
            seq, body, length = self._unfinished[0]
        if isinstance(body, bytes):
            with self._section:
                line = number_line(self._prefix, seq, body)
                self._store.append(seq, line)
                self._finished(length, len(line))
            return True
        body.prepare()
        while True:
            with self._section:
                piece = self._store.place(seq, body)
            # Without the lock: it may be megabytes.
            lines = body.lines(self._prefix, seq, piece.held)
            taken = 0 if isinstance(piece, MemoryPiece) else piece.append(lines)
            with self._section:
                if isinstance(piece, MemoryPiece) and self._store.is_open(piece):
                    taken = piece.append(lines)  # else it went to disk meanwhile
                if self._store.placed(seq, body, taken):
                    self._finished(length, len(lines))
                    return True

    def _finished(self, counted: int, written: int) -> None:
        """Count the first of those that wait as stored; the lock is held."""
        self._unfinished.popleft()
        ledger = self._ledger
        ledger.waiting_bytes += written - counted
        ledger.unfinished_bytes -= counted
        ledger.unfinished_events -= 1
