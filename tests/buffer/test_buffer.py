"""The buffer: order, bounds and counters, from any thread, and never a deadlock."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.ledger import BufferCounts
from asynctrack._buffer.store import LINE_OVERHEAD, Store
from asynctrack._buffer.waiters import AsyncWaiter, ThreadWaiter
from asynctrack._format import line_prefix, number_line, parse_line_start

WRITER = "0123456789abcdef" * 2
BODY = b'{"time_unix_nano":1}'
LINE = len(number_line(line_prefix(WRITER), 1, BODY))


class Recorded:
    """A waiter that remembers how it ended."""

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body
        self.outcomes: list[bool] = []

    def finish(self, accepted: bool) -> None:
        self.outcomes.append(accepted)


def make(
    max_bytes: int = 10_000,
    max_events: int = 10,
    piece_bytes: int = 1_000,
    piece_events: int = 4,
    wake: Callable[[], None] = lambda: None,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> Buffer:
    return Buffer(
        writer_id=WRITER,
        store=Store(WRITER, piece_bytes, piece_events, spooled=False),
        max_bytes=max_bytes,
        max_events=max_events,
        wake=wake,
        monotonic=monotonic,
    )


def balanced(counts: BufferCounts) -> bool:
    settled = counts.delivered + counts.dead_lettered
    return counts.accepted == settled + counts.spooled + counts.pending


def drain(buffer: Buffer) -> list[bytes]:
    """Take and settle everything; return its lines."""
    lines: list[bytes] = []
    while (piece := buffer.take()) is not None:
        lines += piece.raw().splitlines(keepends=True)
        buffer.settle(piece)
    return lines


def numbers(lines: list[bytes]) -> list[int]:
    found = [parse_line_start(line) for line in lines]
    assert all(place is not None and place[0] == WRITER for place in found)
    return [place[1] for place in found if place is not None]


def test_numbers_have_no_gaps_and_no_other_order() -> None:
    """Events come out in the order in which they went in, numbered from 1."""
    buffer = make(max_events=100)
    bodies = [b'{"time_unix_nano":%d}' % number for number in range(50)]
    assert all(buffer.put_nowait(body) for body in bodies)
    lines = drain(buffer)
    assert numbers(lines) == list(range(1, 51))
    assert lines == [
        number_line(line_prefix(WRITER), seq, body) for seq, body in enumerate(bodies, 1)
    ]


def test_what_is_refused_uses_up_no_number() -> None:
    """A refused event leaves no gap."""
    buffer = make(max_events=2, piece_events=2)
    assert [buffer.put_nowait(BODY) for _ in range(4)] == [True, True, False, False]
    buffer.drop("buffer_full", 2)
    drain(buffer)
    assert buffer.put_nowait(BODY)
    assert numbers(drain(buffer)) == [3]
    assert buffer.counts().dropped == {"buffer_full": 2}


def test_the_bound_in_events_counts_what_is_not_acknowledged() -> None:
    """What is cut and being uploaded takes up room until it is settled."""
    buffer = make(max_events=4, piece_events=2)
    while buffer.put_nowait(BODY):
        pass
    piece = buffer.take()
    assert piece is not None
    assert piece.events == 2
    assert not buffer.put_nowait(BODY)
    buffer.settle(piece)
    assert [buffer.put_nowait(BODY) for _ in range(3)] == [True, True, False]
    assert buffer.counts().pending == 4


@pytest.mark.parametrize(("room", "fits"), [(0, True), (-1, False)])
def test_the_bound_in_bytes_to_the_byte(room: int, fits: bool) -> None:
    """An event fits when its body and the overhead of a line do, exactly."""
    buffer = make(max_bytes=LINE + len(BODY) + LINE_OVERHEAD + room)
    assert buffer.put_nowait(BODY)
    assert buffer.put_nowait(BODY) is fits


def test_the_overhead_is_enough() -> None:
    """A line is never longer than its body and the overhead, whatever its number."""
    for seq in (1, 10**12 - 1, 10**15):
        assert len(number_line(line_prefix(WRITER), seq, BODY)) <= len(BODY) + LINE_OVERHEAD


def test_an_event_larger_than_the_buffer_passes_alone() -> None:
    """A huge event is accepted when nothing else is in, and nothing else beside it."""
    buffer = make(max_bytes=1_000)
    huge = b'{"time_unix_nano":1,"x":"%b"}' % (b"x" * 5_000)
    assert buffer.put_nowait(BODY)
    assert not buffer.put_nowait(huge)
    drain(buffer)
    assert buffer.put_nowait(huge)
    assert not buffer.put_nowait(BODY)
    piece = buffer.take()
    assert piece is not None
    assert (piece.events, piece.size > 5_000) == (1, True)
    buffer.settle(piece)
    assert buffer.put_nowait(BODY)


def test_a_tenth_is_kept_for_ends_and_errors() -> None:
    """What may be shed leaves a tenth of the buffer free, in events and in bytes."""
    by_events = make(max_events=20)
    assert [by_events.put_nowait(BODY, sheddable=True) for _ in range(20)].count(True) == 18
    assert [by_events.put_nowait(BODY) for _ in range(4)].count(True) == 2
    by_bytes = make(max_bytes=10 * 1_000, max_events=1_000)
    body = b'{"time_unix_nano":1,"x":"%b"}' % (b"x" * 200)
    shed = [by_bytes.put_nowait(body, sheddable=True) for _ in range(100)].count(True)
    assert 8_500 < by_bytes.counts().waiting_bytes <= 9_000
    kept = [by_bytes.put_nowait(body) for _ in range(100)].count(True)
    assert 9_500 < by_bytes.counts().waiting_bytes <= 10_000
    assert shed > kept > 0


def test_waiters_are_served_first_come_first_served() -> None:
    """Whoever waited longest is accepted first, and nobody passes by."""
    buffer = make(max_events=2, piece_events=2)
    assert buffer.put_nowait(BODY)
    assert buffer.put_nowait(BODY)
    waiters = [Recorded(b'{"time_unix_nano":%d}' % number) for number in range(3)]
    assert [buffer.enqueue(waiter) for waiter in waiters] == [None, None, None]
    assert buffer.counts().waiting == 3
    piece = buffer.take()
    assert piece is not None
    buffer.settle(piece)
    assert [waiter.outcomes for waiter in waiters] == [[True], [True], []]
    assert not buffer.put_nowait(BODY)  # there is somebody who waits
    lines = drain(buffer)
    assert [waiter.outcomes for waiter in waiters] == [[True], [True], [True]]
    assert numbers(lines) == [3, 4, 5]
    assert [b'"time_unix_nano":%d' % number in lines[number] for number in range(3)] == [True] * 3


def test_a_large_waiter_is_not_passed_by_small_ones() -> None:
    """A waiter whose event is large is not starved by those behind it."""
    buffer = make(max_bytes=1_000, max_events=100, piece_events=1)
    while buffer.put_nowait(BODY):
        pass
    large = Recorded(b'{"time_unix_nano":1,"x":"%b"}' % (b"x" * 900))
    small = Recorded()
    buffer.enqueue(large)
    buffer.enqueue(small)
    piece = buffer.take()
    assert piece is not None
    buffer.settle(piece)
    assert (large.outcomes, small.outcomes) == ([], [])
    drain(buffer)
    assert (large.outcomes, small.outcomes) == ([True], [True])


def test_a_waiter_that_finds_room_is_accepted_at_once() -> None:
    """Room that was made meanwhile is used."""
    buffer, waiter = make(), Recorded()
    assert buffer.enqueue(waiter) is None
    assert waiter.outcomes == [True]
    assert buffer.counts().waiting == 0


def test_withdrawing() -> None:
    """A waiter that gives up is out of the queue; one that was accepted is not any more."""
    buffer = make(max_events=2)
    accepted, gone = Recorded(), Recorded()
    buffer.enqueue(accepted)
    buffer.put_nowait(BODY)
    buffer.enqueue(gone)
    assert buffer.withdraw(gone)
    assert not buffer.withdraw(gone)
    assert not buffer.withdraw(accepted)
    drain(buffer)
    assert gone.outcomes == []
    assert buffer.counts().accepted == 2


def test_closing_drops_who_waits_with_the_reason() -> None:
    """Closing ends every wait, counts it, and refuses what comes after with the first reason."""
    buffer = make(max_events=2)
    buffer.put_nowait(BODY)
    buffer.put_nowait(BODY)
    waiters = [Recorded(), Recorded()]
    for waiter in waiters:
        buffer.enqueue(waiter)
    assert buffer.close("closed") == 2
    assert [waiter.outcomes for waiter in waiters] == [[False], [False]]
    assert buffer.counts().dropped == {"closed": 2}
    assert not buffer.put_nowait(BODY)
    late = Recorded()
    assert buffer.enqueue(late) == "closed"
    assert late.outcomes == []
    assert buffer.close("close_timeout") == 2
    assert buffer.closed_reason == "closed"
    assert numbers(drain(buffer)) == [1, 2]
    assert balanced(buffer.counts())


def test_the_worker_is_woken_at_the_start_and_when_a_piece_is_full() -> None:
    """The worker is woken for the first event and for each full piece, not for each event."""
    woken: list[int] = []
    buffer = make(max_events=100, piece_events=4, wake=lambda: woken.append(1))
    after = []
    for _ in range(9):
        buffer.put_nowait(BODY)
        after.append(len(woken))
    assert after[0] == 1
    assert after[:4] == [1, 1, 1, 1]
    assert len(woken) == 3
    assert buffer.cut_state()[2]


def test_a_waiter_wakes_the_worker() -> None:
    """A callback that waits makes the worker cut what there is."""
    woken: list[int] = []
    buffer = make(max_events=2, wake=lambda: woken.append(1))
    buffer.put_nowait(BODY)
    buffer.put_nowait(BODY)
    assert buffer.cut_state() == (2, 0.0, False)
    before = len(woken)
    buffer.enqueue(Recorded())
    assert len(woken) == before + 1
    assert buffer.cut_state() == (2, 0.0, True)


def test_the_age_is_that_of_the_oldest_event() -> None:
    """The delay of a batch counts from its first event, also when others follow."""
    clock = [5.0]
    buffer = make(monotonic=lambda: clock[0])
    assert buffer.cut_state() == (0, None, False)
    buffer.put_nowait(BODY)
    clock[0] = 7.0
    buffer.put_nowait(BODY)
    assert buffer.cut_state() == (2, 5.0, False)
    buffer.take()
    assert buffer.cut_state() == (0, None, False)
    clock[0] = 9.0
    buffer.put_nowait(BODY)
    assert buffer.cut_state()[1] == 9.0


def test_refused_events_are_dead_letters() -> None:
    """What the backend refuses for good is counted apart, in whole or in part."""
    buffer = make()
    for _ in range(8):
        buffer.put_nowait(BODY)
    whole, part = buffer.take(), buffer.take()
    assert whole is not None
    assert part is not None
    buffer.settle(whole, refused=4)
    buffer.settle(part, refused=1)
    counts = buffer.counts()
    assert (counts.delivered, counts.dead_lettered, counts.pending) == (3, 5, 0)
    assert counts.waiting_bytes == 0
    assert balanced(counts)


class Reenters(str):
    """A reason that logs when it is looked up: code of others that runs inside the lock."""

    __slots__ = ()
    buffer: Buffer
    left = 0

    def __hash__(self) -> int:
        if Reenters.left:
            Reenters.left -= 1
            assert Reenters.buffer.put_nowait(BODY)
        return super().__hash__()


def test_logging_while_the_lock_is_held() -> None:
    """An event that comes in under the lock is accepted after the call it interrupted."""
    woken: list[int] = []
    buffer = make(wake=lambda: woken.append(1))
    Reenters.buffer, Reenters.left = buffer, 3
    buffer.drop(Reenters("reason"))
    counts = buffer.counts()
    assert Reenters.left < 3
    assert counts.accepted == counts.pending == 3 - Reenters.left
    assert counts.dropped == {"reason": 1}
    assert woken, "the worker must hear of an event that was put aside, or it waits for ever"
    assert numbers(drain(buffer)) == list(range(1, counts.accepted + 1))


def test_logging_from_the_clock() -> None:
    """An event that comes in while another one is accepted follows it."""
    depth = [3]
    holder: list[Buffer] = []

    def monotonic() -> float:
        if depth[0]:
            depth[0] -= 1
            holder[0].put_nowait(b'{"time_unix_nano":2}')
        return 0.0

    buffer = make(monotonic=monotonic)
    holder.append(buffer)
    buffer.put_nowait(BODY)
    lines = drain(buffer)
    assert numbers(lines) == list(range(1, len(lines) + 1))
    assert b'"time_unix_nano":1' in lines[0]
    counts = buffer.counts()
    assert counts.delivered == counts.accepted == len(lines) > 1
    assert (counts.pending, counts.waiting_bytes) == (0, 0)


def test_a_full_buffer_counts_what_came_in_under_the_lock() -> None:
    """What was put aside and finds no room is dropped and counted, never lost in silence."""
    buffer = make(max_events=1)
    buffer.put_nowait(BODY)
    Reenters.buffer, Reenters.left = buffer, 1
    buffer.drop(Reenters("other"))
    assert buffer.counts().dropped == {"other": 1, "buffer_full": 1}
    assert buffer.counts().accepted == 1


def test_finalizers_that_log() -> None:
    """Objects whose finalizer logs, collected at any moment, neither deadlock nor lose count."""
    buffer = make(max_bytes=10**9, max_events=10**6, piece_events=100)
    finalized = [0]

    class Logs:
        def __init__(self) -> None:
            self.cycle = self  # only the collector frees it, wherever that happens to run

        def __del__(self) -> None:
            finalized[0] += 1
            buffer.put_nowait(BODY)
            buffer.counts()
            buffer.drop("finalized")

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(2_000):
            Logs()
            buffer.put_nowait(BODY)
            buffer.cut_state()
            if random.random() < 0.1 and (piece := buffer.take()) is not None:
                buffer.settle(piece)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    counts = buffer.counts()
    assert finalized[0] == 2_000
    assert counts.accepted == 4_000
    assert counts.dropped == {"finalized": 2_000}
    assert balanced(counts)
    remaining = numbers(drain(buffer))
    assert remaining == list(range(4_000 - len(remaining) + 1, 4_001))
    assert buffer.counts().delivered == 4_000
    assert buffer.counts().waiting_bytes == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize("at", range(1, 5))
def test_a_signal_handler_that_logs_before_what_was_put_aside_is_accepted(at: int) -> None:
    """Whichever look at what was put aside it comes after, each event is accepted once."""
    buffer = make()

    class Interrupted(deque[bytes]):
        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            found = len(self) > 0
            if self.looks == at:
                assert buffer.put_nowait(BODY)
            return found

    buffer._deferred = Interrupted([BODY])
    assert buffer.put_nowait(BODY)
    assert buffer._deferred.looks >= at
    assert not buffer._deferred
    assert balanced(buffer.counts())
    assert buffer.counts().accepted == 3


def test_signal_handlers_that_log() -> None:
    """A signal handler that logs at any instruction neither deadlocks nor loses count."""
    code = f"""
import signal, sys
sys.path.insert(0, {str(sys.path[0])!r})
from tests.buffer.test_buffer import BODY, balanced, make
buffer = make(max_bytes=10**9, max_events=10**7, piece_events=100)
fired = []
def handler(*_):
    fired.append(1)  # at once: the next signal may come before a sum is stored (Python 3.10)
    buffer.put_nowait(BODY)
    buffer.drop("both")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
put = 0
while len(fired) < 2_000:
    buffer.put_nowait(BODY)
    put += 1
    buffer.drop("both")
    if put % 7 == 0 and (piece := buffer.take()) is not None:
        buffer.settle(piece)
signal.setitimer(signal.ITIMER_REAL, 0)
both = put + len(fired)
counts = buffer.counts()
assert counts.accepted == both, (counts, both)
assert counts.dropped == {{"both": both}}, (counts, both)
assert balanced(counts), counts
while (piece := buffer.take()) is not None:
    buffer.settle(piece)
assert buffer.counts().delivered == both
assert buffer.counts().waiting_bytes == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


def test_threads_that_hammer_it() -> None:
    """Eight threads that put and wait, one that delivers: every event once, exact totals."""
    wakeup = threading.Event()
    buffer = make(max_bytes=50_000, max_events=50, piece_events=7, wake=wakeup.set)
    threads, each = 8, 500
    done = threading.Event()
    lines: list[bytes] = []
    peak = [0]
    over: list[BufferCounts] = []

    def produce(thread: int) -> None:
        for number in range(each):
            body = b'{"time_unix_nano":1,"from":[%d,%d]}' % (thread, number)
            if not buffer.put_nowait(body):
                waiter = ThreadWaiter(body)
                assert buffer.enqueue(waiter) is None
                assert waiter.outcome.result(240)

    def deliver() -> None:
        while not (done.is_set() and buffer.counts().pending == 0):
            piece = buffer.take()
            if piece is None:
                wakeup.wait(0.01)
                wakeup.clear()
                continue
            lines.extend(piece.raw().splitlines(keepends=True))
            counts = buffer.counts()
            peak[0] = max(peak[0], counts.pending)
            if not balanced(counts):
                over.append(counts)
            buffer.settle(piece)

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    worker = threading.Thread(target=deliver)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        worker.start()
        for thread in producers:
            thread.start()
        for thread in producers:
            thread.join(240)
        done.set()
        wakeup.set()
        worker.join(240)
    finally:
        sys.setswitchinterval(interval)
    assert not worker.is_alive()
    assert numbers(lines) == list(range(1, threads * each + 1))
    for thread_number in range(threads):
        mine = [line for line in lines if b'"from":[%d,' % thread_number in line]
        assert [int(line.split(b",")[-1].rstrip(b"]}\n")) for line in mine] == list(range(each))
    counts = buffer.counts()
    assert (counts.accepted, counts.delivered, counts.pending) == (
        threads * each, threads * each, 0,
    )  # fmt: skip
    assert peak[0] <= 50
    assert over == []
    assert counts.waiting_bytes == 0


async def test_async_waiters_are_resolved_in_their_loop() -> None:
    """A waiter of an event loop is woken there, once, whichever thread made room."""
    buffer = make(max_events=2)
    buffer.put_nowait(BODY)
    buffer.put_nowait(BODY)
    waiters = [AsyncWaiter(BODY), AsyncWaiter(BODY)]
    for waiter in waiters:
        buffer.enqueue(waiter)
    maker = threading.Thread(target=drain, args=(buffer,))
    maker.start()
    outcomes: list[Any] = await asyncio.wait_for(
        asyncio.gather(*(waiter.outcome for waiter in waiters)), 240
    )
    await asyncio.to_thread(maker.join)
    assert outcomes == [True, True]
    waiters[0].finish(False)  # told again it stays as it was
    await asyncio.sleep(0)
    assert waiters[0].outcome.result() is True


def test_a_waiter_whose_loop_is_closed() -> None:
    """Making room for a callback whose loop has ended disturbs nobody."""
    buffer = make(max_events=1)
    buffer.put_nowait(BODY)

    async def wait() -> AsyncWaiter:
        waiter = AsyncWaiter(BODY)
        buffer.enqueue(waiter)
        return waiter

    asyncio.run(wait())
    behind = Recorded()
    buffer.enqueue(behind)
    drain(buffer)
    assert behind.outcomes == [True]
    assert balanced(buffer.counts())


class Misjudged:
    """An event with a value that is larger than it says."""

    def __init__(self, ready: bool) -> None:
        self.body = BODY
        self.ready = ready

    def __len__(self) -> int:
        return len(BODY)

    def prepare(self) -> None:
        self.ready = True

    def missing(self, held: Mapping[str, int]) -> int:
        return 1

    def lines(self, prefix: bytes, seq: int, held: Mapping[str, int]) -> bytes:
        value = b"%b%d,%b\n" % (prefix, seq, b'"event":"value","data":"%b"}' % (b"x" * 600))
        return value + number_line(prefix, seq, BODY)

    def hold(self, held: dict[str, int]) -> None:
        pass


@pytest.mark.parametrize("ready", [True, False], ids=["in the callback", "in the worker"])
@pytest.mark.timeout(60)
def test_an_event_that_is_larger_than_was_said_goes_to_the_next_piece(ready: bool) -> None:
    """Nobody goes round in circles: the piece that does not take it is done."""
    buffer = make()
    for _ in range(3):
        assert buffer.put_nowait(Misjudged(ready))
    buffer.finish()
    pieces = []
    while (piece := buffer.take()) is not None:
        pieces.append(piece.events)
        buffer.settle(piece)
    counts = buffer.counts()
    assert pieces == [1, 1, 1] and balanced(counts)
    assert (counts.delivered, counts.waiting_bytes) == (3, 0)


def test_what_waits_for_the_worker_is_counted_and_keeps_its_order() -> None:
    """Numbers are given at once; what comes behind an unfinished event waits with it."""
    buffer = make(max_bytes=400)
    later = Misjudged(ready=False)
    assert buffer.put_nowait(later) and buffer.put_nowait(BODY) and buffer.unfinished
    counts = buffer.counts()
    assert balanced(counts) and counts.pending == 2
    assert counts.waiting_bytes == 2 * (len(BODY) + LINE_OVERHEAD)
    assert buffer.take() is None, "nothing is there to be cut"
    assert not buffer.put_nowait(b"x" * 200), "memory is counted before"
    buffer.finish()
    assert not buffer.unfinished and buffer.put_nowait(BODY) is False
    piece = buffer.take()
    assert piece is not None
    starts = [parse_line_start(line) for line in piece.raw().splitlines()]
    assert starts == [(WRITER, 1), (WRITER, 1), (WRITER, 2)]
    buffer.settle(piece)
    assert buffer.counts().waiting_bytes == 0
