"""Tasks that belong together, and what wakes them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from asynctrack._common.tasks import Tasks
from asynctrack._common.wakeup import Wakeup


async def forever(ended: list[str], name: str) -> None:
    """Wait for nothing, and note how that ends."""
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def test_all_run_until_the_last_has_ended() -> None:
    """What a task starts belongs to the group as well."""
    tasks, done = Tasks(), []

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")

    async def first() -> None:
        tasks.start(second())
        done.append("first")

    await tasks.run(first())
    assert done == ["first", "second"]
    assert not tasks.running


async def test_an_error_in_one_ends_all_and_is_raised_as_it_is() -> None:
    """Whoever runs them gets the first error, not a group of errors."""
    tasks, ended = Tasks(), list[str]()
    error = ValueError("ours")

    async def fail() -> None:
        raise error

    async def first() -> None:
        tasks.start(forever(ended, "other"))
        await asyncio.sleep(0)
        tasks.start(fail())
        await forever(ended, "first")

    with pytest.raises(ValueError, match="ours") as raised:
        await tasks.run(first())
    assert raised.value is error
    assert sorted(ended) == ["first", "other"]


async def test_one_of_them_may_end_all() -> None:
    """Ended by one of their own, they end without an error, that one included."""
    tasks, ended = Tasks(), list[str]()

    async def end() -> None:
        tasks.cancel()

    async def first() -> None:
        tasks.start(end())
        await forever(ended, "first")

    await tasks.run(first())
    assert ended == ["first"]


async def test_cancelled_from_outside_it_waits_for_all() -> None:
    """The cancellation is passed on when nothing of theirs runs any more."""
    tasks, ended = Tasks(), list[str]()
    running = asyncio.ensure_future(tasks.run(forever(ended, "first")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["first"]


async def test_a_cancellation_that_gets_lost_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may swallow one: the task goes on, and hears of it again."""
    monkeypatch.setattr("asynctrack._common.tasks.AGAIN", 0.001)
    tasks, swallowed = Tasks(), list[int]()

    async def first() -> None:
        tasks.cancel()
        for number in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(number)

    await tasks.run(first())
    assert swallowed == [0, 1, 2]


async def test_one_that_is_not_needed_any_more_ends_alone() -> None:
    """Ended on purpose, a task is no error, and the others go on."""
    tasks, ended = Tasks(), list[str]()

    async def first() -> None:
        other = tasks.start(forever(ended, "other"))
        await asyncio.sleep(0)
        tasks.end(other)
        tasks.end(None)
        await asyncio.sleep(0)
        assert tasks.running
        ended.append("first")

    await tasks.run(first())
    assert ended == ["other", "first"]


async def test_a_cancellation_that_nobody_asked_for_is_an_error() -> None:
    """A task that is gone without having done its work is not taken for one that has."""
    tasks, ended = Tasks(), list[str]()

    async def first() -> None:
        tasks.start(forever(ended, "other"))
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled, and not by asynctrack"):
        await tasks.run(first())
    assert ended == ["other"]


@pytest.mark.parametrize("when", ["before", "after", "ending"])
async def test_nothing_is_started_where_nobody_waits_for_it(when: str) -> None:
    """Such a coroutine is closed: it neither runs nor warns that it was never awaited."""
    tasks, ran = Tasks(), list[bool]()

    async def late() -> None:
        ran.append(True)

    def start() -> None:
        coroutine: Coroutine[Any, Any, None] = late()
        assert tasks.start(coroutine) is None

    async def first() -> None:
        if when == "ending":
            tasks.cancel()
            start()

    if when == "before":
        start()
    await tasks.run(first())
    if when == "after":
        start()
    assert not ran


async def test_it_wakes_whoever_waits_or_comes_later() -> None:
    """Set before or during the wait, it is the same; clear, and the next wait lasts."""
    wakeup = Wakeup()
    wakeup.set()
    assert await wakeup.wait() is True
    wakeup.clear()
    waiting = asyncio.ensure_future(wakeup.wait(240))
    await asyncio.sleep(0)
    assert not waiting.done()
    wakeup.set()
    wakeup.set()
    assert await waiting is True


async def test_a_wait_has_its_time() -> None:
    """When the time is over it says that nobody has set it; nothing of it is left in the loop."""
    wakeup = Wakeup()
    assert await wakeup.wait(0.001) is False
    assert await wakeup.wait(0) is False
    waiting = asyncio.ensure_future(wakeup.wait(240))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    wakeup.set()
    assert await wakeup.wait(240) is True
