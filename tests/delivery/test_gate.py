"""How many uploads may be under way: the decision with a clock by hand, and the gate itself."""

from __future__ import annotations

import asyncio
import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common.retry import MAX_RETRY_AFTER, RetryPolicy
from asynctrack._delivery.gate import HALVE_INTERVAL, OPEN_AFTER, Flow, Gate

POLICY = RetryPolicy(base=0.5, cap=10.0)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


# -- Flow -----------------------------------------------------------------------------------------


def test_all_is_allowed_at_first() -> None:
    """Nothing has failed: the full number at once, and no wait."""
    flow = Flow(8)
    assert (flow.allowed, flow.open, flow.wait(0.0)) == (8, False, 0.0)


def test_each_failure_halves() -> None:
    """Failures at least an interval apart halve the number, down to one and never to none."""
    flow = Flow(8)
    allowed = []
    for number in range(OPEN_AFTER - 1):
        flow.failed(number * HALVE_INTERVAL, 0.5, None)
        allowed.append(flow.allowed)
    assert allowed == [4, 2, 1, 1]
    assert not flow.open


def test_failures_of_one_round_count_once() -> None:
    """Four uploads that fail together halve the number once, as they say one thing."""
    flow = Flow(8)
    for _ in range(OPEN_AFTER - 1):
        flow.failed(100.0, 0.5, None)
    assert flow.allowed == 4
    flow.succeeded()
    flow.failed(100.0 + HALVE_INTERVAL * 0.99, 0.5, None)
    assert flow.allowed == 4
    flow.failed(100.0 + HALVE_INTERVAL, 0.5, None)
    assert flow.allowed == 2


def test_a_round_of_successes_raises_by_one() -> None:
    """As many successes as may be under way raise the number by one, not by as many."""
    flow = Flow(8)
    for number in range(3):
        flow.failed(number * HALVE_INTERVAL, 0.5, None)
        flow.succeeded()
    start = flow.allowed
    assert start <= 2
    for target in range(start + 1, 9):
        rounds = 0
        while flow.allowed < target:
            flow.succeeded()
            rounds += 1
            assert rounds <= target + 1
        assert rounds >= target - 2
    for _ in range(100):
        flow.succeeded()
    assert flow.allowed == 8, "never more than was asked for"


def test_five_failures_in_a_row_leave_one_probe() -> None:
    """From the fifth failure on one probe at a time, each after a longer wait, jittered."""
    flow = Flow(8, POLICY)
    for _ in range(OPEN_AFTER - 1):
        flow.failed(0.0, 1.0, None)
        assert flow.wait(0.0) == 0.0
    waits = []
    for _ in range(8):
        flow.failed(50.0, 1.0, None)
        assert flow.open
        assert flow.allowed == 1
        waits.append(flow.wait(50.0))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert flow.wait(59.0) == 1.0
    assert flow.wait(60.5) == 0.0


def test_one_good_probe_lets_all_go_on() -> None:
    """The service is back with the first success: no wait, and the number grows from there."""
    flow = Flow(8, POLICY)
    for number in range(20):
        flow.failed(float(number), 1.0, None)
    assert flow.allowed == 1
    flow.succeeded()
    assert (flow.open, flow.wait(20.0)) == (False, 0.0)
    assert flow.allowed == 2


def test_a_success_between_starts_the_count_anew() -> None:
    """Failures that are not in a row do not count as an outage."""
    flow = Flow(8)
    for number in range(50):
        flow.failed(number * 0.01, 0.5, None)
        if number % OPEN_AFTER == OPEN_AFTER - 2:
            flow.succeeded()
        assert not flow.open


@pytest.mark.parametrize(("asked", "waited"), [(3.0, 3.0), (9_999.0, MAX_RETRY_AFTER)])
def test_a_probe_waits_as_long_as_it_was_told(asked: float, waited: float) -> None:
    """Retry-After is not undercut, jitter comes on top, and it is believed up to a limit."""
    flow = Flow(8, POLICY)
    for _ in range(OPEN_AFTER):
        flow.failed(0.0, 0.5, asked)
    assert flow.wait(0.0) == waited + 0.5 * POLICY.base


def test_many_clients_do_not_come_back_together() -> None:
    """A thousand clients that went down at one moment spread their probes over the whole wait."""
    uniform = random.Random(7).random
    slots = [0] * 10
    for _ in range(1_000):
        flow = Flow(8, POLICY)
        for _ in range(OPEN_AFTER + 6):
            flow.failed(0.0, uniform(), None)
        slots[int(flow.wait(0.0) / POLICY.cap * 10)] += 1
    assert min(slots) > 60, slots


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0), st.floats(0.0, 0.999)), max_size=200),
)
def test_the_number_stays_within_its_bounds(
    most: int, steps: list[tuple[bool, float, float]]
) -> None:
    """Property: from one to the number asked for, whatever happens; one when it is open."""
    flow = Flow(most)
    now = 0.0
    for worked, later, uniform in steps:
        now += later
        if worked:
            flow.succeeded()
        else:
            flow.failed(now, uniform, None)
        assert 1 <= flow.allowed <= most
        assert not flow.open or flow.allowed == 1
        assert 0.0 <= flow.wait(now) <= 10.0


def test_trouble_in_every_third_request_costs_less_than_one_more_each() -> None:
    """At 30 % failures the requests are fewer than twice the useful ones, and it never stops."""
    uniform = random.Random(3).random
    flow = Flow(8)
    now, requests, useful = 0.0, 0, 0
    while useful < 1_000:
        now += max(0.05, flow.wait(now))
        for _ in range(flow.allowed):
            requests += 1
            if uniform() < 0.3:
                flow.failed(now, uniform(), None)
            else:
                useful += 1
                flow.succeeded()
        assert now < 1_000
    assert requests < 2 * useful


# -- Gate -----------------------------------------------------------------------------------------


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_than_allowed_are_let_in() -> None:
    """Whoever comes when it is full waits for one who leaves."""
    gate = Gate(Flow(2))
    inside = []

    async def visit(name: int) -> None:
        await gate.enter()
        inside.append(name)

    tasks = [asyncio.create_task(visit(name)) for name in range(4)]
    await _settle()
    assert len(inside) == 2
    gate.succeeded()
    await _settle()
    assert len(inside) == 3
    gate.leave()
    await asyncio.gather(*tasks)
    assert sorted(inside) == [0, 1, 2, 3]


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    """A cancelled wait leaves the number as it was."""
    gate = Gate(Flow(1))
    await gate.enter()
    waiting = asyncio.create_task(gate.enter())
    await _settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.leave()
    with anyio.fail_after(60):
        await gate.enter()


async def test_one_probe_at_a_time_when_it_is_open() -> None:
    """During an outage one is let in when the wait is over, and nobody beside it."""
    clock = Clock()
    gate = Gate(Flow(4, RetryPolicy(base=0.02, cap=0.02)), monotonic=clock, uniform=lambda: 1.0)
    for _ in range(OPEN_AFTER):
        await gate.enter()
        gate.failed(None)
    inside = []

    async def visit(name: int) -> None:
        await gate.enter()
        inside.append(name)

    tasks = [asyncio.create_task(visit(name)) for name in range(3)]
    await _settle()
    assert inside == [], "the clock stands still"
    clock.now += 0.02
    with anyio.fail_after(60):
        while not inside:
            await asyncio.sleep(0)
    await _settle()
    assert len(inside) == 1
    gate.succeeded()
    await asyncio.gather(*tasks)


async def test_a_pause_ends_when_the_service_is_back() -> None:
    """Who waits for its own next attempt goes on as soon as another's probe has worked."""
    clock = Clock()
    gate = Gate(Flow(4, RetryPolicy(base=0.0, cap=0.0)), monotonic=clock)
    for _ in range(OPEN_AFTER):
        await gate.enter()
        gate.failed(None)
    pausing = asyncio.create_task(gate.pause(3_600.0))
    await _settle()
    await gate.enter()
    gate.succeeded()
    with anyio.fail_after(60):
        await pausing


async def test_a_pause_outside_an_outage_lasts_its_time() -> None:
    """A success elsewhere does not cut short the wait of one that failed by itself."""
    clock = Clock()
    gate = Gate(Flow(4), monotonic=clock)
    await gate.enter()
    gate.failed(None)
    pausing = asyncio.create_task(gate.pause(10.0))
    await _settle()
    await gate.enter()
    gate.succeeded()
    await _settle()
    assert not pausing.done()
    clock.now += 10.0
    await gate.enter()
    gate.leave()
    await pausing


async def test_one_that_is_refused_holds_up_no_other_tracker() -> None:
    """While nothing but refusals came, a tracker that has not failed itself goes first, at once."""
    gate = Gate(Flow(4, RetryPolicy(base=100.0, cap=100.0)), monotonic=Clock(), uniform=lambda: 1.0)
    for _ in range(OPEN_AFTER):
        await gate.enter()
        gate.failed(None, refused=True)
    refused = asyncio.create_task(gate.enter())
    await _settle()
    assert not refused.done(), "it waits for its probe"
    with anyio.fail_after(60):
        await gate.enter(fresh=True)
    gate.succeeded()
    await refused


async def test_in_an_outage_nobody_goes_first() -> None:
    """Where the service fails, each one more attempt would make it worse."""
    gate = Gate(Flow(4, RetryPolicy(base=100.0, cap=100.0)), monotonic=Clock(), uniform=lambda: 1.0)
    for number in range(OPEN_AFTER):
        await gate.enter()
        gate.failed(None, refused=number > 0)
    fresh = asyncio.create_task(gate.enter(fresh=True))
    await _settle()
    assert not fresh.done()
    fresh.cancel()
