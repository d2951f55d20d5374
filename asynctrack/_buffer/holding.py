"""Traces that the sample leaves out, held until their root ends: they are kept if it fails.

An event that is held is not accepted: it has no number, and is in no counter but ``held``. All of
a trace's are accepted together when its root fails, as they were captured, or when the tracker
closes before its root has ended: nobody saw its end. They are left out when it ends otherwise.

They are in memory, within a bound, and with a spool in its journal as well, so that a process that
is killed leaves the traces that had not ended. Beyond the bound the oldest ones are left out, as
their sample says.

Nobody waits here for long: whoever finds the lock taken leaves its part to the thread that has it,
after a moment. So a finalizer that logs does no harm, whatever this very thread holds then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.packed import Packed
from asynctrack._capture.sampling import Held, Sampling
from asynctrack._format import line_prefix, number_line

SHARE: Final = 4
"""What part of ``max_buffer_bytes`` may be held besides: a quarter."""

PATIENCE: Final = 0.01
"""Seconds that one waits for another thread at the most. It takes microseconds, except where that
one waits for what this one holds."""
MANY: Final = 1_000
"""Events that are not held any more and still wait to be written, before they are sorted out."""
_ANEW: Final = -1
"""Stands behind the events of a trace that is written anew."""

Body = bytes | Packed
_Measured = Callable[[], None]


class Journal(Protocol):
    """Where held events are on disk; see ``asynctrack._spool.journal``. Used under one lock."""

    def hold(self, trace: int, index: int, lines: bytes) -> bool:
        """Write an event; False where there is no room now."""

    def left_out(self, trace: int) -> None:
        """Note that a trace is left out."""

    def kept(self, trace: int, first_seq: int, events: int) -> None:
        """Note that a trace is about to be accepted, under these numbers."""

    def stored(self, trace: int, events: int) -> None:
        """Note that so many of its events, the first ones, are safe without the journal."""

    def accepted(self, trace: int) -> None:
        """Note that all of them are."""

    def worn(self) -> list[int]:
        """Return the traces to be written anew, as they are all that keeps an old file."""

    def written_anew(self, trace: int) -> None:
        """Note that all events of a trace were written again."""


class HeldTrace(Held):
    """A trace that is held.

    Args:
        holding: Has it.
        number: Its number in the journal.
    """

    __slots__ = ("bodies", "holding", "measured", "number", "size", "values", "written")

    def __init__(self, holding: Holding, number: int) -> None:
        super().__init__(left_out=None)
        self.holding = holding
        self.number = number
        self.bodies: list[Body] = []
        self.measured: list[_Measured] = []
        self.size = 0
        self.values: dict[str, int] = {}
        """The values that the journal has for it, as in ``Packed.lines``."""
        self.written = False
        """Whether the journal knows it."""

    def put(self, body: Body, measured: _Measured | None) -> bool:
        """Hold an event; see ``Held``."""
        return self.holding.put(self, body, measured)

    def root_ended(self, *, failed: bool) -> None:
        """Decide; see ``Held``."""
        self.holding.decide(self, failed)


class Holding:
    """Holds traces, for one writer.

    Args:
        writer_id: Whose they are.
        buffer: Accepts those that are kept.
        max_bytes: Bound of what is held, in bytes.
        wake: Wakes the worker; called from any thread, must not block.
        warn: Tells the user that the bound is reached.
    """

    def __init__(
        self,
        *,
        writer_id: str,
        buffer: Buffer,
        max_bytes: int,
        wake: Callable[[], None],
        warn: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._max_bytes = max_bytes
        self._wake = wake
        self._warn = warn
        self._prefix = line_prefix(writer_id)
        self._lock = threading.Lock()
        self._owner = 0  # the thread that has it
        self._actions: deque[Callable[[], None]] = deque()
        self._traces: dict[int, HeldTrace] = {}
        self._roomless: deque[HeldTrace] = deque()  # kept, and waiting for room in the buffer
        self._unwritten: deque[tuple[HeldTrace, int]] = deque()
        # Accepted, and in the journal until they are in segments: the number there, that of the
        # first event, and how many.
        self._accepted: deque[tuple[int, int, int]] = deque()
        self._stored = 0  # up to this number the journal knows it of the first one
        self._numbers = count(1)
        self._size = 0
        self.journal: Journal | None = None
        """Has them on disk; None where they are in memory only."""
        self.sampling: Sampling | None = None
        """Counts what is left out."""
        self.events = 0
        """Events that are held."""
        self.traces_failed = 0
        """Traces that were kept although the sample leaves them out."""
        self.traces_given_up = 0
        """Traces that were left out before their end, as the bound was reached."""

    # -- the callbacks' side ------------------------------------------------------------------

    def begin(self) -> HeldTrace:
        """Begin to hold a trace."""
        return HeldTrace(self, next(self._numbers))

    def put(self, trace: HeldTrace, body: Body, measured: _Measured | None) -> bool:
        """Hold an event, as ``Held.put``."""
        if trace.left_out is not None:
            if trace.left_out:
                self._leave_out(1)
            return not trace.left_out
        self.do(lambda: self._put(trace, body, measured))
        return False

    def decide(self, trace: HeldTrace, keep: bool) -> None:
        """Keep a trace, or leave it out."""
        self.do(lambda: self._decide(trace, keep))

    def close(self) -> bool:
        """Keep what is held: nobody sees its end any more.

        Returns:
            Whether there was room for all of it.
        """
        self.do(self._keep_all)
        return not (self._roomless or self._actions)  # or another thread is still at it

    # -- the worker's side --------------------------------------------------------------------

    @property
    def unfinished(self) -> bool:
        """Whether the worker has something to do here."""
        return bool(self._unwritten or self._roomless)

    def finish(self) -> None:
        """Do what callbacks have left: write what was not ready, accept what found no room. Blocks;
        for any thread, one at a time."""
        for trace, index in list(self._unwritten):
            for body in trace.bodies[index : index + 1]:  # none, once it is decided
                if not isinstance(body, bytes):
                    body.prepare()
        self.do(self._write_rest)
        self.do(self._accept_rest)

    def note_stored(self) -> None:
        """Let the journal forget what was accepted, as far as it is in segments or was cut.

        Before a segment is deleted, or lines are uploaded from memory: else a replay would deliver
        them once more.
        """
        if self._accepted:
            self.do(self._note_stored)

    def supplied(self, take: Callable[[], None]) -> None:
        """Have the journal take a file, and write what waits for one."""
        self.do(take)
        self.do(self._write_rest)

    def do(self, action: Callable[[], None]) -> None:
        """Do something under the lock, here or in the thread that has it."""
        self._actions.append(action)
        me = threading.get_ident()
        if self._owner == me:
            return  # a finalizer, in the midst of it
        done = False
        while (self._actions or not done) and self._lock.acquire(timeout=PATIENCE):
            self._owner = me
            try:
                while self._actions:
                    self._actions.popleft()()
            finally:
                done, self._owner = True, 0
                self._lock.release()

    # -- under the lock -----------------------------------------------------------------------

    def _put(self, trace: HeldTrace, body: Body, measured: _Measured | None) -> None:
        if trace.left_out:
            self._leave_out(1)
            return
        if self._buffer.closed_reason:
            self._buffer.drop(self._buffer.closed_reason)
            return
        if measured is not None:
            if trace.left_out is None:
                trace.measured.append(measured)
            else:
                measured()
        self._traces[trace.number] = trace
        trace.bodies.append(body)
        trace.size += len(body)
        self._size += len(body)
        self.events += 1
        if trace.left_out is not None:  # kept meanwhile
            self._accept(trace)
        if trace.bodies and self.journal is not None:
            self._unwritten.append((trace, len(trace.bodies) - 1))
            self._write_rest()
        if self._size > self._max_bytes:
            self._make_room()

    def _decide(self, trace: HeldTrace, keep: bool) -> None:
        if trace.left_out is not None:
            return
        trace.left_out = not keep
        if keep:
            self.traces_failed += 1
            for measured in trace.measured:
                measured()
            trace.measured = []
            self._accept(trace)
            return
        self._leave_out(len(trace.bodies), traces=1)
        if self.journal is not None and trace.written:
            self.journal.left_out(trace.number)
        self._forget(trace)

    def _accept(self, trace: HeldTrace) -> None:
        """Let the buffer accept a trace that is kept, or have it wait for room there."""
        if not trace.bodies:
            return
        journal = self.journal if trace.written else None

        def begin(first_seq: int) -> None:
            if journal is not None:
                journal.kept(trace.number, first_seq, len(trace.bodies))

        first_seq = self._buffer.put_together(trace.bodies, begin)
        if first_seq is not None:
            if journal is not None:
                self._accepted.append((trace.number, first_seq, len(trace.bodies)))
                self._note_stored()
            self._forget(trace)
        elif self._buffer.closed_reason:
            if journal is None:  # else whoever replays finds it there, and keeps it
                self._buffer.drop(self._buffer.closed_reason, len(trace.bodies))
                self._forget(trace)
        elif trace not in self._roomless:
            self._roomless.append(trace)
            self._wake()

    def _accept_rest(self) -> None:
        for _ in range(len(self._roomless)):
            self._accept(self._roomless.popleft())

    def _note_stored(self) -> None:
        if self.journal is None:
            return
        stored = self._buffer.stored_through
        while self._accepted:
            number, first_seq, events = self._accepted[0]
            if stored < first_seq + events - 1:
                if stored >= first_seq and stored > self._stored:
                    self._stored = stored
                    self.journal.stored(number, stored - first_seq + 1)
                break
            self._accepted.popleft()
            self.journal.accepted(number)

    def _keep_all(self) -> None:
        self._accept_rest()
        for trace in list(self._traces.values()):
            self._decide(trace, keep=True)

    def _make_room(self) -> None:
        """Leave out the oldest traces until what is held is within the bound."""
        for trace in list(self._traces.values()):
            if self._size <= self._max_bytes:
                break
            if trace.left_out is None:
                self.traces_given_up += 1
                self._decide(trace, keep=False)
            elif trace in self._roomless:
                self._roomless.remove(trace)
                self._buffer.drop("buffer_full", len(trace.bodies))
                if self.journal is not None and trace.written:
                    self.journal.left_out(trace.number)
                self._forget(trace)
        self._warn()

    def _forget(self, trace: HeldTrace) -> None:
        self._traces.pop(trace.number, None)
        self.events -= len(trace.bodies)
        self._size -= trace.size
        trace.bodies, trace.measured, trace.values, trace.size = [], [], {}, 0
        # What is still put into it is another trace to the journal.
        trace.number, trace.written = next(self._numbers), False

    def _leave_out(self, events: int, traces: int = 0) -> None:
        if self.sampling is not None:
            self.sampling.leave_out(events, traces)

    # -- the journal --------------------------------------------------------------------------

    def _write_rest(self) -> None:
        """Write to the journal what is not there yet, as far as it is ready and there is room."""
        if self.journal is None:
            return
        for number in self.journal.worn():
            trace = self._traces.get(number)
            if trace is not None:
                # From its first event on: what it refers to may be in a file that goes.
                trace.values = {}
                self._keep_unwritten(but=trace)
                self._unwritten.extend((trace, index) for index in range(len(trace.bodies)))
                self._unwritten.append((trace, _ANEW))
        if len(self._unwritten) > 2 * self.events + MANY:
            self._keep_unwritten()
        while self._unwritten:
            trace, index = self._unwritten[0]
            # Nothing of one that was left out, or accepted; what waits for room is written, too.
            is_there = trace.bodies and index < len(trace.bodies)
            if is_there and not self._write(trace, index):
                return
            self._unwritten.popleft()

    def _keep_unwritten(self, but: HeldTrace | None = None) -> None:
        """Keep what waits to be written of the traces that are held, but for one."""
        held = [one for one in self._unwritten if one[0].bodies and one[0] is not but]
        self._unwritten.clear()
        self._unwritten.extend(held)

    def _write(self, trace: HeldTrace, index: int) -> bool:
        assert self.journal is not None
        if index == _ANEW:
            self.journal.written_anew(trace.number)
            return True
        body = trace.bodies[index]
        if isinstance(body, bytes):
            lines = number_line(self._prefix, 0, body)
        elif body.ready:
            lines = body.lines(self._prefix, 0, trace.values)
        else:
            self._wake()  # to be made ready
            return False
        if not self.journal.hold(trace.number, index, lines):
            return False
        trace.written = True
        if not isinstance(body, bytes):
            body.hold(trace.values)
        return True
