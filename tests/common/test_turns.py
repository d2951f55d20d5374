"""Short turns: how soon the application gets the interpreter while a thread of ours computes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynctrack import tracker
from asynctrack._common.offload import offload
from asynctrack._common.turns import INTERVAL, Turns, turns
from asynctrack._engine.loop import run_loop

USUAL = 0.004


@pytest.fixture(autouse=True)
def usual_interval() -> Iterator[None]:
    """The application's own switch interval."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    yield
    sys.setswitchinterval(before)


def interval() -> float:
    """The switch interval, but for what setting it rounds off."""
    return round(sys.getswitchinterval(), 7)


def test_a_block_takes_short_turns() -> None:
    """The interval is short inside, what it was outside, and also where the block raises."""
    own = Turns()
    with pytest.raises(KeyError), own.taken():
        assert interval() == INTERVAL
        raise KeyError
    assert interval() == USUAL


def test_the_last_thread_puts_it_back() -> None:
    """As long as one of several threads computes, turns are short."""
    own = Turns()
    own.begin()
    own.begin()
    own.end()
    assert interval() == INTERVAL
    own.end()
    assert interval() == USUAL


def test_a_shorter_interval_of_the_users_stays() -> None:
    """It is never made longer."""
    sys.setswitchinterval(INTERVAL / 5)
    with Turns().taken():
        assert interval() == INTERVAL / 5
    assert interval() == INTERVAL / 5


def test_what_the_user_sets_meanwhile_stays() -> None:
    """The user's word counts, whenever it comes."""
    with Turns().taken():
        sys.setswitchinterval(0.02)
    assert interval() == 0.02


def test_an_event_loop_takes_short_turns_unless_it_waits() -> None:
    """Its steps are short turns; while it waits, the interval is the application's."""
    seen: list[float] = []
    threads: list[threading.Thread] = []
    waiting = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen.append(interval())
        woken = loop.create_future()
        # What runs next runs after the select that does not wait, and sees that turns go on.
        loop.call_soon(lambda: seen.append(interval()))
        await asyncio.sleep(0)

        def wake() -> None:
            waiting.wait(60)
            while (found := interval()) != USUAL:  # until it really waits
                pass
            seen.append(found)  # asked for again, it may have had a look at something meanwhile
            loop.call_soon_threadsafe(woken.set_result, None)

        threads.append(threading.Thread(target=wake))
        threads[0].start()
        waiting.set()
        await woken
        seen.append(interval())

    run_loop(main())
    threads[0].join()
    assert seen == [INTERVAL, INTERVAL, USUAL, INTERVAL]
    assert interval() == USUAL


async def test_offloaded_work_takes_short_turns() -> None:
    """A thread of ours that computes for the worker's loop counts as well."""
    assert await offload(interval) == INTERVAL
    assert interval() == USUAL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_child_of_a_fork_begins_anew() -> None:
    """A fork in the middle of a turn leaves the child the application's own interval."""
    turns.begin()
    try:
        child = os.fork()
        if not child:
            os._exit(0 if interval() == USUAL and not turns._computing else 1)
        _, status = os.waitpid(child, 0)
    finally:
        turns.end()
    assert status == 0
    assert interval() == USUAL


async def test_a_tracker_that_has_nothing_to_do_leaves_it_alone(tmp_path: Path) -> None:
    """While a tracker is open and waits, and after it, the interval is the application's."""
    async with tracker(tmp_path, max_delay=3600.0) as handler:
        handler.log_metric("score", 1.0)
        await handler.flush()
        while interval() != USUAL:  # it ends its turn; this would run into the test's time limit
            await asyncio.sleep(0)
    while interval() != USUAL:  # the engine lives on, and ends its turn as well
        await asyncio.sleep(0)
