"""The buffer against a model of it, in any order of calls."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.ledger import LINE_OVERHEAD
from asynctrack._buffer.store import MemoryPiece, SegmentPiece, Store
from asynctrack._format import line_prefix, number_line
from tests.buffer.test_buffer import WRITER, Recorded

lengths = st.integers(0, 300) | st.sampled_from([1_500, 5_000])


class Machine(RuleBasedStateMachine):
    """Calls the buffer, and keeps by plain lists what it should hold."""

    @initialize(
        max_bytes=st.integers(300, 3_000),
        max_events=st.integers(1, 12),
        piece_bytes=st.integers(200, 1_000),
        piece_events=st.integers(1, 5),
    )
    def begin(self, max_bytes: int, max_events: int, piece_bytes: int, piece_events: int) -> None:
        self.max_bytes, self.max_events = max_bytes, max_events
        self.piece_bytes, self.piece_events = piece_bytes, piece_events
        self.woken = 0
        self.buffer = Buffer(
            writer_id=WRITER,
            store=Store(WRITER, piece_bytes, piece_events, spooled=False),
            max_bytes=max_bytes,
            max_events=max_events,
            wake=self._wake,
            monotonic=lambda: 1.0,
        )
        self.accepted: list[bytes] = []  # bodies, in order
        self.taken = 0
        self.open: list[MemoryPiece | SegmentPiece] = []
        self.delivered = self.dead = 0
        self.dropped: dict[str, int] = {}
        self.waiting: list[Recorded] = []
        self.ended: dict[int, bool] = {}
        self.everyone: list[Recorded] = []
        self.closed: str | None = None
        self.serial = 0

    def _wake(self) -> None:
        self.woken += 1

    def _body(self, length: int) -> bytes:
        self.serial += 1
        return b'{"time_unix_nano":%d,"x":"%b"}' % (self.serial, b"x" * length)

    def _line(self, index: int) -> bytes:
        return number_line(line_prefix(WRITER), index + 1, self.accepted[index])

    def _outstanding(self) -> tuple[int, int]:
        events = len(self.accepted) - self.delivered - self.dead
        size = sum(piece.size for piece in self.open)
        size += sum(len(self._line(at)) for at in range(self.taken, len(self.accepted)))
        return events, size

    def _fits(self, body: bytes, *, sheddable: bool = False) -> bool:
        events, size = self._outstanding()
        if not events:
            return True
        max_bytes, max_events = self.max_bytes, self.max_events
        if sheddable:
            max_bytes -= max_bytes // 10
            max_events -= max_events // 10
        return size + len(body) + LINE_OVERHEAD <= max_bytes and events < max_events

    @rule(length=lengths, sheddable=st.booleans())
    def put(self, length: int, sheddable: bool) -> None:
        body = self._body(length)
        expected = not self.closed and not self.waiting and self._fits(body, sheddable=sheddable)
        assert self.buffer.put_nowait(body, sheddable=sheddable) is expected
        if expected:
            self.accepted.append(body)

    @rule(length=lengths)
    def wait(self, length: int) -> None:
        waiter = Recorded(self._body(length))
        expected = not self.waiting and self._fits(waiter.body)
        assert self.buffer.enqueue(waiter) == self.closed
        if self.closed:
            return
        self.everyone.append(waiter)
        if expected:
            self.accepted.append(waiter.body)
            self.ended[id(waiter)] = True
        else:
            self.waiting.append(waiter)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiting))
        assert self.buffer.withdraw(waiter)
        assert not self.buffer.withdraw(waiter)
        self.waiting.remove(waiter)

    @rule(reason=st.sampled_from(["buffer_full", "cancelled"]), events=st.integers(1, 5))
    def drop(self, reason: str, events: int) -> None:
        self.buffer.drop(reason, events)
        self.dropped[reason] = self.dropped.get(reason, 0) + events

    @rule()
    def take(self) -> None:
        piece = self.buffer.take()
        if self.taken == len(self.accepted):
            assert piece is None
            return
        assert piece is not None
        assert 1 <= piece.events <= self.piece_events
        assert piece.size <= self.piece_bytes or piece.events == 1
        assert piece.first_seq == self.taken + 1
        assert piece.raw() == b"".join(
            self._line(at) for at in range(self.taken, self.taken + piece.events)
        )
        assert piece.size == len(piece.raw())
        self.taken += piece.events
        self.open.append(piece)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        piece = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        refused = data.draw(st.integers(0, piece.events))
        self.delivered += piece.events - refused
        self.dead += refused
        while self.waiting and self._fits(self.waiting[0].body):
            waiter = self.waiting.pop(0)
            self.accepted.append(waiter.body)
            self.ended[id(waiter)] = True
        woken = self.woken
        before = self.buffer.counts().waiting
        self.buffer.settle(piece, refused=refused)
        assert (self.woken > woken) is (before > len(self.waiting))

    @rule(reason=st.sampled_from(["closed", "close_timeout"]), now=st.integers(0, 9))
    def close(self, reason: str, now: int) -> None:
        if now:
            return  # else most sequences would end at once
        assert self.buffer.close(reason) == len(self.accepted)
        self.closed = self.closed or reason
        if self.waiting:
            self.dropped[reason] = self.dropped.get(reason, 0) + len(self.waiting)
        for waiter in self.waiting:
            self.ended[id(waiter)] = False
        self.waiting = []

    @invariant()
    def counters_add_up(self) -> None:
        if not hasattr(self, "buffer"):
            return
        counts = self.buffer.counts()
        events, size = self._outstanding()
        assert counts.accepted == len(self.accepted)
        assert (counts.delivered, counts.dead_lettered) == (self.delivered, self.dead)
        assert (counts.pending, counts.spooled) == (events, 0)
        assert counts.accepted == (
            counts.delivered + counts.dead_lettered + counts.spooled + counts.pending
        )
        assert counts.waiting_bytes == size
        assert counts.dropped == self.dropped
        assert counts.waiting == len(self.waiting)
        assert self.buffer.closed_reason == self.closed

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "buffer"):
            return
        events, size = self._outstanding()
        assert events <= self.max_events
        assert size <= self.max_bytes or events == 1

    @invariant()
    def waiters_hear_once(self) -> None:
        if not hasattr(self, "buffer"):
            return
        for waiter in self.everyone:
            expected = [self.ended[id(waiter)]] if id(waiter) in self.ended else []
            assert waiter.outcomes == expected

    @invariant()
    def nobody_waits_without_a_reason(self) -> None:
        """A callback waits only while something is in that will make room when it is settled."""
        if hasattr(self, "buffer") and self.waiting:
            assert self._outstanding()[0] > 0

    @invariant()
    def the_worker_knows_what_to_cut(self) -> None:
        if not hasattr(self, "buffer"):
            return
        events, oldest, hurry = self.buffer.cut_state()
        assert events == len(self.accepted) - self.taken
        assert (oldest is None) is (events == 0)
        assert hurry or (not self.waiting and events <= self.piece_events)


TestBuffer = Machine.TestCase
TestBuffer.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
