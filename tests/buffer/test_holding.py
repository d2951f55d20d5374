"""Traces that are held: kept whole and in order, or left out, within a bound, in all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.holding import HeldTrace, Holding
from asynctrack._capture.sampling import Sampling
from tests.buffer.test_buffer import WRITER, balanced, make
from tests.property.strategies import quick


def body(trace: int, index: int, size: int = 0) -> bytes:
    return b'{"time_unix_nano":%d,"trace":%d,"pad":"%b"}' % (index, trace, b"x" * size)


def holding_of(buffer: Buffer, max_bytes: int = 10**6, warn: Callable[[], None] = int) -> Holding:
    holding = Holding(
        writer_id=WRITER, buffer=buffer, max_bytes=max_bytes, wake=lambda: None, warn=warn
    )
    holding.sampling = Sampling(0.0, lambda text: None, holding.begin)
    return holding


def put(holding: Holding, trace: HeldTrace, *bodies: bytes) -> None:
    for one in bodies:
        assert not holding.put(trace, one, None)


def stored(buffer: Buffer) -> list[bytes]:
    """The bodies in the buffer, in order; it is empty after that."""
    lines: list[bytes] = []
    while (piece := buffer.take()) is not None:
        lines += piece.raw().splitlines()
        buffer.settle(piece)
    return [b'{"time' + line.partition(b'"time')[2] for line in lines]


def test_a_trace_that_fails_is_accepted_in_order() -> None:
    """Nothing of it is accepted before; then all of it, and what comes later at once."""
    buffer = make()
    holding = holding_of(buffer)
    trace, measured = holding.begin(), []
    assert not holding.put(trace, body(1, 1), lambda: measured.append(1))
    put(holding, trace, body(1, 2))
    assert (holding.events, buffer.counts().accepted, measured) == (2, 0, [])
    trace.root_ended(failed=True)
    assert (holding.events, buffer.counts().accepted, measured) == (0, 2, [1])
    assert holding.put(trace, body(1, 3), None), "the caller puts it into the buffer"
    assert stored(buffer) == [body(1, 1), body(1, 2)]
    assert holding.traces_failed == 1


def test_a_trace_that_ends_well_is_left_out() -> None:
    """It is counted, and so is what comes of it later; how it ended first counts."""
    buffer = make()
    holding = holding_of(buffer)
    assert holding.sampling is not None
    trace = holding.begin()
    put(holding, trace, body(1, 1), body(1, 2))
    trace.root_ended(failed=False)
    put(holding, trace, body(1, 3))
    trace.root_ended(failed=True)
    assert (holding.events, buffer.counts().accepted) == (0, 0)
    assert (holding.sampling.events, holding.sampling.traces_left_out) == (3, 1)


def test_beyond_the_bound_the_oldest_is_left_out() -> None:
    """What is held stays within the bound; the user is told, and the rest is kept as ever."""
    buffer, told = make(), list[int]()
    holding = holding_of(buffer, 1_000, lambda: told.append(1))
    assert holding.sampling is not None
    first, second = holding.begin(), holding.begin()
    put(holding, first, body(1, 1, 400))
    put(holding, second, body(2, 1, 400))
    assert not told
    put(holding, second, body(2, 2, 400))
    assert told and (holding.traces_given_up, holding.sampling.traces_left_out) == (1, 1)
    first.root_ended(failed=True)
    second.root_ended(failed=True)
    assert stored(buffer) == [body(2, 1, 400), body(2, 2, 400)]


def test_a_failed_trace_waits_for_room() -> None:
    """In a full buffer there is no part of it: it waits as a whole, until there is room."""
    buffer = make(max_events=10)
    holding = holding_of(buffer)
    for number in range(9):
        buffer.put_nowait(body(0, number))
    trace = holding.begin()
    put(holding, trace, body(1, 1), body(1, 2))
    trace.root_ended(failed=True)
    assert (buffer.counts().accepted, holding.events, holding.unfinished) == (9, 2, True)
    assert not holding.close()
    assert len(stored(buffer)) == 9
    holding.finish()
    assert (buffer.counts().accepted, holding.events, holding.unfinished) == (11, 0, False)
    assert stored(buffer) == [body(1, 1), body(1, 2)]


def test_at_the_end_it_is_kept() -> None:
    """What nobody saw the end of is kept; what comes once nothing is accepted is dropped."""
    buffer = make()
    holding = holding_of(buffer)
    put(holding, holding.begin(), body(1, 1))
    assert holding.close()
    late = holding.begin()
    put(holding, late, body(2, 1))
    buffer.close("closed")
    put(holding, late, body(2, 2))
    holding.close()
    assert stored(buffer) == [body(1, 1)]
    assert (buffer.counts().dropped, holding.events) == ({"closed": 2}, 0)


def test_a_finalizer_in_the_midst_of_it() -> None:
    """What comes in on the very thread that decides is held behind it, and not waited for."""
    buffer = make()
    holding = holding_of(buffer)
    trace, other = holding.begin(), holding.begin()
    put(holding, other, body(2, 1))

    def finalizer() -> None:
        put(holding, other, body(2, 2))
        other.root_ended(failed=True)

    assert not holding.put(trace, body(1, 1), finalizer)
    trace.root_ended(failed=True)
    assert stored(buffer) == [body(1, 1), body(2, 1), body(2, 2)]


def another_thread(
    holding: Holding, trace: HeldTrace, event: bytes
) -> tuple[threading.Thread, threading.Event]:
    """Return a thread that puts an event, which takes until the other is set, and fails the trace
    then."""
    inside, go_on = threading.Event(), threading.Event()

    def takes_long() -> None:
        inside.set()
        go_on.wait(60)

    thread = threading.Thread(
        target=lambda: (holding.put(trace, event, takes_long), trace.root_ended(failed=True))
    )
    thread.start()
    assert inside.wait(60)
    return thread, go_on


def test_a_finalizer_that_holds_the_buffer() -> None:
    """Two threads that each have what the other one wants go on after a moment."""
    buffer = make()
    holding = holding_of(buffer)
    trace, other = holding.begin(), holding.begin()
    put(holding, trace, body(1, 1))
    thread, go_on = another_thread(holding, trace, body(1, 2))
    with buffer._section:  # as a finalizer that runs in the buffer's own code
        go_on.set()
        put(holding, other, body(2, 1))
    thread.join(60)
    assert not thread.is_alive()
    other.root_ended(failed=True)
    assert stored(buffer) == [body(1, 1), body(1, 2), body(2, 1)]


def test_closing_while_another_thread_is_at_it() -> None:
    """What that thread does for it later is not done yet: it is to be asked again."""
    buffer = make()
    holding = holding_of(buffer)
    trace, other = holding.begin(), holding.begin()
    put(holding, trace, body(1, 1))
    thread, go_on = another_thread(holding, other, body(2, 1))
    assert not holding.close()
    go_on.set()
    thread.join(60)
    assert holding.close()
    assert sorted(stored(buffer)) == [body(1, 1), body(2, 1)]


ACTIONS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["put", "put", "put", "failed", "ok", "room"])),
    max_size=60,
)


@quick
@given(ACTIONS, st.integers(100, 2_000), st.integers(4, 40))
def test_the_accounts(actions: list[tuple[int, str]], bound: int, max_events: int) -> None:
    """Whatever comes in whatever order, bounds and a full buffer included: each event is accepted,
    held, left out or dropped, and each trace that is there is there from its first event on."""
    buffer = make(max_events=max_events, piece_events=4)
    holding = holding_of(buffer, bound)
    assert holding.sampling is not None
    traces: dict[int, HeldTrace] = {}
    puts: dict[int, int] = {}
    there: list[bytes] = []
    total = direct = 0
    for name, what in actions:
        trace = traces.setdefault(name, holding.begin())
        if what == "put":
            puts[name] = puts.get(name, 0) + 1
            total += 1
            if holding.put(trace, body(name, puts[name]), None):
                direct += 1  # the callback's to put
        elif what == "room":
            there += stored(buffer)
            holding.finish()
        else:
            trace.root_ended(failed=what == "failed")
        counts = buffer.counts()
        assert balanced(counts) and holding._size <= bound
        assert holding._size == sum(one.size for one in traces.values())
        settled = counts.accepted + sum(counts.dropped.values()) + direct
        assert total == settled + holding.events + holding.sampling.events
    there += stored(buffer)
    for name in traces:
        own = [one for one in there if b'"trace":%d,' % name in one]
        assert own == [body(name, index) for index in range(1, len(own) + 1)]


@settings(quick, max_examples=25)
@given(st.integers(0, 2**32))
def test_threads(seed: int) -> None:
    """Traces of many threads at a time: each that failed is there whole, and no other."""
    buffer = make(max_bytes=10**7, max_events=10**6, piece_bytes=10**6, piece_events=10**6)
    holding = holding_of(buffer)
    failed: list[int] = []
    barrier = threading.Barrier(4)

    def work(thread: int) -> None:
        barrier.wait()
        for number in range(thread, 40, 4):
            trace: Any = holding.begin()
            put(holding, trace, *(body(number, index) for index in range(5)))
            if fails := bool((seed >> (number % 32)) & 1):
                failed.append(number)
            trace.root_ended(failed=fails)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    holding.do(lambda: None)
    lines = stored(buffer)
    assert len(lines) == 5 * len(failed) and holding.events == 0
    for at in range(0, len(lines), 5):
        number = int(lines[at].split(b'"trace":')[1].split(b",")[0])
        assert lines[at : at + 5] == [body(number, index) for index in range(5)]
        assert number in failed
