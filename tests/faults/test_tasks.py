"""What the application does around the handler: cancel, raise, block its loop, use many loops.

Rows 21 to 25 of the matrix; the tracker's own tests hold the exact cases of each.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asynctrack import AsyncHandler, Statistics, tracker
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import EVENTS, Ground, end, outputs
from tests.support.auditor import audit_folder, events_in_folder
from tests.support.faults import Answer, Hang
from tests.support.scale import at_scale

if sys.version_info < (3, 11):
    # Comes with anyio where Python lacks it.
    from exceptiongroup import (  # type: ignore[import-not-found,unused-ignore]  # not on 3.11
        ExceptionGroup,
    )

# -- row 21 ---------------------------------------------------------------------------------------


class _Steps:
    """Cancels a task at its n-th step, and once more some steps later."""

    def __init__(self, at: int, again: int | None) -> None:
        self._at = at
        self._again = again
        self.taken = 0

    async def work(self, handler: AsyncHandler, entered: list[int]) -> None:
        chain = joke_chain()
        for number in range(4):
            entered.append(number)
            await chain.ainvoke({"topic": number}, {"callbacks": [handler]})

    def watch(self, task: asyncio.Task[Any]) -> None:
        def step() -> None:
            self.taken += 1
            if self.taken in (self._at, self._at + (self._again or 0)) and not task.done():
                task.cancel()
            if not task.done() and self.taken < self._at + 100:
                asyncio.get_running_loop().call_soon(step)

        asyncio.get_running_loop().call_soon(step)


def _plain(steps: _Steps, folder: Path, seen: list[Any]) -> Callable[[], Any]:
    async def body() -> None:
        async with tracker(folder, run_name="r") as handler:
            seen.append(handler)
            steps.watch(asyncio.current_task())  # type: ignore[arg-type]  # there is one in here
            await steps.work(handler, [])

    return body


def _anyio_group(steps: _Steps, folder: Path, seen: list[Any]) -> Callable[[], Any]:
    async def inner() -> None:
        async with tracker(folder, run_name="r") as handler:
            seen.append(handler)
            async with anyio.create_task_group() as group:
                group.start_soon(steps.work, handler, [])
                group.start_soon(steps.work, handler, [])

    async def body() -> None:
        task = asyncio.ensure_future(inner())
        steps.watch(task)
        await task

    return body


def _scope(steps: _Steps, folder: Path, seen: list[Any]) -> Callable[[], Any]:
    async def body() -> None:
        with anyio.CancelScope() as scope:
            loop = asyncio.get_running_loop()

            def step() -> None:
                steps.taken += 1
                if steps.taken == steps._at:
                    scope.cancel()
                elif steps.taken < steps._at:
                    loop.call_soon(step)

            async with tracker(folder, run_name="r") as handler:
                seen.append(handler)
                loop.call_soon(step)
                await steps.work(handler, [])
        if scope.cancelled_caught:
            raise asyncio.CancelledError

    return body


@pytest.mark.parametrize("kind", [_plain, _anyio_group, _scope])
@pytest.mark.parametrize("again", [None, 3], ids=["once", "twice"])
def test_cancelled_at_any_await(kind: Any, again: int | None, tmp_path: Path) -> None:
    """Cancelled at a random step, by asyncio, by a task group, by a scope: all is delivered first.

    Every event that a callback accepted is in the store exactly once when the task has ended, and
    the cancellation comes out as such.
    """
    randomness = random.Random(21)
    cancelled = 0
    for case in range(at_scale(8, 200)):
        folder = tmp_path / str(case)
        steps = _Steps(randomness.randrange(1, 120), again)
        seen: list[AsyncHandler] = []

        async def main(steps: _Steps = steps, folder: Path = folder, seen: Any = seen) -> bool:
            try:
                await kind(steps, folder, seen)()
            except asyncio.CancelledError:
                return True
            return False

        cancelled += asyncio.run(main())
        if not seen:
            continue  # cancelled while it entered: there is no block to leave
        (handler,) = seen
        statistics = handler.statistics()
        assert statistics.accepted == statistics.delivered, statistics
        assert statistics.balanced
        assert [event["seq"] for event in events_in_folder(folder)] == list(
            range(1, statistics.accepted + 1)
        )
    assert cancelled >= 4, "most of them were cancelled within the chains"
    until_in_thread(lambda: not [t for t in threading.enumerate() if t.name == "asynctrack"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
def test_a_time_limit_inside_the_block(tmp_path: Path) -> None:
    """asyncio.timeout around a chain cancels that chain only, and the tracker goes on."""

    async def slow(_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> Statistics:
        from langchain_core.runnables import RunnableLambda

        async with tracker(tmp_path) as handler:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):  # type: ignore[attr-defined]  # from 3.11 on
                        await RunnableLambda(slow).ainvoke(1, {"callbacks": [handler]})
            await joke_chain().ainvoke({"topic": "x"}, {"callbacks": [handler]})
        return handler.statistics()

    statistics = asyncio.run(main())
    assert statistics.delivered == statistics.accepted >= 5 + CHAIN_EVENTS
    assert audit_folder(tmp_path).events == statistics.accepted


# -- row 22 ---------------------------------------------------------------------------------------


class _OwnError(Exception):
    pass


BODIES: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: _OwnError("mine"),
    "ExceptionGroup": lambda: ExceptionGroup("mine", [_OwnError("a"), ValueError("b")]),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("mine"),
    "SystemExit": lambda: SystemExit(3),
}
SINKS: dict[str, Any] = {"ok": None, "hanging": Hang(), "500": Answer(500)}


@pytest.mark.parametrize("sink", SINKS)
def test_the_same_object_comes_out(sink: str, ground: Ground) -> None:
    """Whatever the body raises and whatever S3 does: that very object, with no context of ours."""
    if SINKS[sink] is not None:
        ground.proxy.add(SINKS[sink], path=EVENTS)
    for sync in (True, False):
        for name, make in BODIES.items():
            raised = make()

            def in_sync(raised: BaseException = raised) -> None:
                with tracker(ground.run(), close_timeout=0.2) as handler:
                    end(handler)
                    raise raised

            async def in_async(raised: BaseException = raised) -> None:
                async with tracker(ground.run(), close_timeout=0.2) as handler:
                    await end(handler)
                    raise raised

            with pytest.raises(type(raised)) as caught:
                if sync:
                    in_sync()
                else:
                    # Not asyncio.run, which turns KeyboardInterrupt in a task into its own.
                    _drive(in_async())
            assert caught.value is raised, (name, sync)
            assert (raised.__context__, raised.__cause__) == (None, None)


def _drive(coroutine: Any) -> None:
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(coroutine)
        try:
            loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit):
            task.exception()  # taken here, so that asyncio does not report it as forgotten
            raise
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# -- rows 23 and 24 -------------------------------------------------------------------------------


def test_a_hundred_loops_in_a_row(tmp_path: Path) -> None:
    """A hundred asyncio.run with one handler, and calls after each loop has been closed."""
    held: list[AsyncHandler] = []

    async def enter() -> Any:
        entered = tracker(tmp_path)
        held.append(await entered.__aenter__())
        return entered

    entered = asyncio.run(enter())
    (handler,) = held
    for number in range(100):
        asyncio.run(end(handler, number))
        # No loop at all: what the callback awaits is done at once where there is room.
        with pytest.raises(StopIteration):
            end(handler, number).send(None)
    asyncio.run(entered.__aexit__(None, None, None))
    assert handler.statistics().delivered == 200
    assert sorted(outputs(events_in_folder(tmp_path))) == sorted([*range(100), *range(100)])
    # And after the end: counted, never raised.
    asyncio.run(end(handler))
    assert handler.statistics().dropped == {"closed": 1}


def test_threads_times_loops(tmp_path: Path) -> None:
    """Eight threads, four of them with loops: 16,000 events, none lost, each task's in order."""
    events = at_scale(2_000, 60_000)  # of each thread
    with tracker(tmp_path, max_batch_events=1_000) as handler:
        handlers = handler, AsyncHandler(handler._sink)

        def in_thread(thread: int) -> None:
            for number in range(events):
                end(handlers[0], [thread, 0, number])

        def in_loop(thread: int) -> None:
            async def task(name: int) -> None:
                for number in range(events // 4):
                    await end(handlers[1], [thread, name, number])
                    if number % 50 == 0:
                        await asyncio.sleep(0)

            async def main() -> None:
                await asyncio.gather(*[task(name) for name in range(4)])

            asyncio.run(main())

        threads = [
            threading.Thread(target=in_loop if number % 2 else in_thread, args=(number,))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statistics = handler.statistics()
    assert statistics.delivered == statistics.accepted == 8 * events
    stored = events_in_folder(tmp_path)
    assert [event["seq"] for event in stored] == list(range(1, 8 * events + 1))
    order: dict[tuple[int, int], list[int]] = {}
    for thread, name, number in outputs(stored):
        order.setdefault((thread, name), []).append(number)
    assert len(order) == 4 + 4 * 4
    assert all(numbers == sorted(numbers) for numbers in order.values())


# -- row 25 ---------------------------------------------------------------------------------------


@pytest.mark.may_block("a blocked loop is what this is about")
def test_a_blocked_loop_holds_no_upload_up(tmp_path: Path) -> None:
    """While the user's loop stands still, what it has logged is delivered."""

    async def main() -> Statistics:
        async with tracker(tmp_path, max_delay=0.05) as handler:
            for number in range(10):
                await end(handler, number)
            until_in_thread(lambda: handler.statistics().delivered == 10)  # blocks the loop
            return handler.statistics()

    assert asyncio.run(main()).delivered == 10


@pytest.mark.may_block("a blocked loop is what this is about")
def test_a_blocked_loop_with_callbacks_that_wait(tmp_path: Path) -> None:
    """Callbacks that waited for room are accepted while their loop stands still."""
    wall = Wall(tmp_path)
    small: dict[str, Any] = {"max_buffer_events": 11, "max_batch_events": 5}  # one reserved

    async def main() -> Statistics:
        async with tracker(wall.folder, overflow="block", durability="memory", **small) as handler:
            tasks = [asyncio.create_task(end(handler, number)) for number in range(40)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert handler.statistics().accepted == 10
            wall.mend()
            until_in_thread(lambda: handler.statistics().accepted == 40)  # blocks the loop
            await asyncio.gather(*tasks)
        return handler.statistics()

    assert asyncio.run(main()).delivered == 40
    assert outputs(events_in_folder(wall.folder)) == list(range(40))


def test_a_span_id_of_any_kind(tmp_path: Path) -> None:
    """Ids from any thread are the caller's own: one span each, start before end."""
    with tracker(tmp_path) as handler:
        ids = [uuid.uuid4() for _ in range(50)]
        for run_id in ids:
            handler.on_chain_start(None, "x", run_id=run_id)
        for run_id in reversed(ids):
            handler.on_chain_end("y", run_id=run_id)
    audit = audit_folder(tmp_path)
    assert (audit.problems, audit.open_spans) == ((), 0)
