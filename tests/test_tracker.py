"""The tracker's life: neighbours, threads and loops, a full buffer, and the final flush."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from langchain_core.callbacks.base import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.runnables import RunnableConfig, RunnableLambda

from asynctrack import AsyncHandler, StateError, Statistics, SyncHandler, tracker
from tests.e2e.chains import CHAIN_EVENTS, joke_chain, model
from tests.e2e.waiting import Wall, until, until_in_thread
from tests.support.auditor import assert_exactly_once, audit_folder, events_in_folder

MEMORY: dict[str, Any] = {"durability": "memory"}
SMALL: dict[str, Any] = {"max_buffer_events": 11, "max_batch_events": 5, "overflow": "block"}
"""Room for ten events of callbacks that wait, and for one more of what never waits."""


@pytest.fixture(params=["memory", "process"])
def small(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a buffer of ten events that makes callbacks wait, with a spool and without."""
    return {**SMALL, "durability": request.param}


def waiting(statistics: Statistics) -> int:
    """Events that are accepted and not delivered, wherever they are."""
    assert statistics.balanced
    return statistics.pending + statistics.spooled


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    """A folder that cannot be written to until it is mended."""
    return Wall(tmp_path)


def end(handler: Any, number: int = 0) -> Any:
    """One event through a handler."""
    return handler.on_chain_end(number, run_id=uuid.uuid4())


def outputs(folder: Path) -> list[Any]:
    return [event.get("outputs") for event in events_in_folder(folder)]


def problems(folder: Path) -> list[str]:
    """What the auditor finds, but for spans: these tests call single callbacks."""
    return [text for text in audit_folder(folder).problems if "the span " not in text]


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "asynctrack"]


@contextlib.contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    began = time.monotonic()
    yield lambda: time.monotonic() - began


# -- neighbours -----------------------------------------------------------------------------------


class Neighbour(AsyncCallbackHandler):
    """Somebody else's handler, not inline, that notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[str] = []


class SyncNeighbour(BaseCallbackHandler):
    """The same, synchronous."""

    def __init__(self) -> None:
        self.calls: list[str] = []


class InlineNeighbour(Neighbour):
    """The same, and inline as ours is: then langchain-core skips those that are not."""

    run_inline = True


def _noting(name: str) -> Any:
    async def callback(self: Neighbour, *args: Any, **kwargs: Any) -> None:
        self.calls.append(name)

    return callback


def _noting_sync(name: str) -> Any:
    def callback(self: SyncNeighbour, *args: Any, **kwargs: Any) -> None:
        self.calls.append(name)

    return callback


for _name in dir(AsyncCallbackHandler):
    if _name.startswith("on_"):
        setattr(Neighbour, _name, _noting(_name))
        setattr(SyncNeighbour, _name, _noting_sync(_name))


async def _astream(runnable: Any, config: Any) -> None:
    async for _ in runnable.astream("x", config):
        pass


USES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "text model": lambda config: FakeListLLM(responses=["a"]).ainvoke("x", config),
    "two prompts at a text model": lambda config: FakeListLLM(responses=["a"]).agenerate(
        ["x", "y"], callbacks=config["callbacks"]
    ),
    "chat model": lambda config: model().ainvoke("x", config),
    "chain": lambda config: joke_chain().ainvoke({"topic": "x"}, config),
    "stream": lambda config: _astream(model(), config),
    "lambda": lambda config: RunnableLambda(lambda value: value).ainvoke("x", config),
}


@pytest.mark.parametrize("kind", [Neighbour, SyncNeighbour, InlineNeighbour])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("use", USES)
def test_neighbours_get_every_callback(
    use: str, place: str, kind: type[Any], tmp_path: Path
) -> None:
    """A handler beside ours is called exactly as it is without ours."""

    async def main() -> tuple[list[str], list[str]]:
        alone, beside = kind(), kind()
        await USES[use]({"callbacks": [alone]})
        async with tracker(tmp_path) as handler:
            both = [beside, handler] if place == "before" else [handler, beside]
            await USES[use]({"callbacks": both})
        return alone.calls, beside.calls

    alone, beside = asyncio.run(main())
    assert sorted(beside) == sorted(alone) != []
    stored = sorted(event["event"] for event in events_in_folder(tmp_path))
    assert stored == sorted(name[3:] for name in alone if name != "on_llm_new_token")


def test_the_handler_runs_in_the_callers_task(tmp_path: Path) -> None:
    """Inline: no task is made for a callback, which would cost thirty times as much."""

    async def tasks(callbacks: list[Any]) -> int:
        made: list[Any] = []

        def make(loop: Any, coro: Any, **options: Any) -> Any:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        asyncio.get_running_loop().set_task_factory(make)
        await joke_chain().ainvoke({"topic": "x"}, {"callbacks": callbacks})
        asyncio.get_running_loop().set_task_factory(None)
        return len(made)

    async def main() -> tuple[int, int, int]:
        async with tracker(tmp_path) as handler:
            return await tasks([]), await tasks([handler]), await tasks([Neighbour()])

    without, ours, another = asyncio.run(main())
    assert ours == without < another


# -- threads and loops ----------------------------------------------------------------------------


def test_both_handlers_from_threads_and_loops_at_once(tmp_path: Path) -> None:
    """Chains in eight threads, four of them with an event loop, into one tracker: all is there."""
    rounds, threads = 10, 4

    def synchronous(handler: SyncHandler) -> None:
        for _ in range(rounds):
            joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})

    def asynchronous(handler: AsyncHandler) -> None:
        async def main() -> None:
            config: RunnableConfig = {"callbacks": [handler]}
            chain = joke_chain()
            await asyncio.gather(*[chain.ainvoke({"topic": "x"}, config) for _ in range(rounds)])

        asyncio.run(main())

    with tracker(tmp_path, **SMALL) as handler, ThreadPoolExecutor(2 * threads) as pool:
        inline = AsyncHandler(handler._sink)
        jobs = [pool.submit(synchronous, handler) for _ in range(threads)]
        jobs += [pool.submit(asynchronous, inline) for _ in range(threads)]
        for job in jobs:
            job.result(240)
    expected = 2 * threads * rounds * CHAIN_EVENTS
    statistics = handler.statistics()
    assert statistics.accepted == statistics.delivered == expected
    assert_exactly_once(audit_folder(tmp_path), expected)


def test_one_handler_over_twenty_loops(tmp_path: Path) -> None:
    """A handler entered in one event loop serves others, after the first is closed."""
    tracking = tracker(tmp_path)

    async def enter() -> AsyncHandler:
        return await tracking.__aenter__()

    async def use(handler: AsyncHandler) -> None:
        await joke_chain().ainvoke({"topic": "x"}, {"callbacks": [handler]})

    handler = asyncio.run(enter())
    for _ in range(20):
        asyncio.run(use(handler))
    asyncio.run(tracking.__aexit__(None, None, None))
    assert handler.statistics().delivered == 20 * CHAIN_EVENTS
    assert_exactly_once(audit_folder(tmp_path), 20 * CHAIN_EVENTS)


def test_twenty_runs_in_a_row_leave_nothing_behind(tmp_path: Path) -> None:
    """Twenty asyncio.run with a tracker each: all delivered, no thread left."""

    async def main() -> None:
        async with tracker(tmp_path) as handler:
            await joke_chain().ainvoke({"topic": "x"}, {"callbacks": [handler]})

    for _ in range(20):
        asyncio.run(main())
    until_in_thread(lambda: not our_threads())  # the last one is on its way out
    audit = audit_folder(tmp_path)
    assert_exactly_once(audit, 20 * CHAIN_EVENTS)
    assert len(audit.writers) == 20


@pytest.mark.may_block("chain.invoke is a blocking call: that it ends is what is tested")
@pytest.mark.parametrize("kind", [SyncHandler, AsyncHandler])
def test_invoke_inside_a_running_loop_with_a_full_buffer(
    kind: type[Any], wall: Wall, small: dict[str, Any]
) -> None:
    """chain.invoke on the loop's thread waits for room and gets it: no deadlock."""

    def mend_when_full(handler: AsyncHandler) -> None:
        until_in_thread(lambda: handler._sink._buffer.counts().waiting)
        wall.mend()

    async def main() -> None:
        async with tracker(wall.folder, **small) as handler:
            chosen = kind(handler._sink)
            chain = joke_chain()
            mender = threading.Thread(target=mend_when_full, args=[handler])
            mender.start()
            for _ in range(5):
                chain.invoke({"topic": "x"}, {"callbacks": [chosen]})
            mender.join()
        assert handler.statistics().delivered == 5 * CHAIN_EVENTS

    asyncio.run(main())
    assert_exactly_once(audit_folder(wall.folder), 5 * CHAIN_EVENTS)


# -- a full buffer --------------------------------------------------------------------------------


def test_a_full_buffer_makes_async_callbacks_await(wall: Wall, small: dict[str, Any]) -> None:
    """Other tasks go on while a callback awaits room, and nothing is lost or out of order."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def log(handler: AsyncHandler) -> None:
        for number in range(100):
            await end(handler, number)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        async with tracker(wall.folder, **small) as handler:
            logging_ = asyncio.create_task(log(handler))
            await until(lambda: handler._sink._buffer.counts().waiting)
            before = ticks
            await until(lambda: ticks > before + 1_000)
            statistics = handler.statistics()
            assert statistics.accepted == waiting(statistics) == 10
            assert not logging_.done()
            wall.mend()
            await logging_
        ticking.cancel()
        assert handler.statistics().delivered == 100

    asyncio.run(main())
    assert outputs(wall.folder) == list(range(100))
    assert problems(wall.folder) == []


def test_a_full_buffer_makes_sync_callbacks_wait(wall: Wall, small: dict[str, Any]) -> None:
    """A thread whose callback finds no room waits, and nothing is lost or out of order."""
    with tracker(wall.folder, **small) as handler:
        thread = threading.Thread(target=lambda: [end(handler, number) for number in range(100)])
        thread.start()
        until_in_thread(lambda: handler._sink._buffer.counts().waiting)
        assert handler.statistics().accepted == 10
        wall.mend()
        thread.join()
    assert outputs(wall.folder) == list(range(100))
    assert problems(wall.folder) == []


def test_the_bound_in_bytes_holds(wall: Wall) -> None:
    """Many tasks with large events never hold more than max_buffer_bytes."""
    bound = 256 * 1024
    seen: list[int] = []

    async def log(handler: AsyncHandler, number: int) -> None:
        await handler.on_chain_end(f"{number:03}" + "x" * 10_000, run_id=uuid.uuid4())
        seen.append(handler.statistics().waiting_bytes)

    async def main() -> None:
        async with tracker(wall.folder, max_buffer_bytes=bound, overflow="block") as handler:
            tasks = [asyncio.create_task(log(handler, number)) for number in range(200)]
            await until(lambda: handler._sink._buffer.counts().waiting)
            wall.mend()
            await asyncio.gather(*tasks)
        assert handler.statistics().delivered == 200

    asyncio.run(main())
    assert 0.8 * bound < max(seen) <= bound
    assert problems(wall.folder) == []


def test_the_users_own_values_have_room_that_callbacks_leave(
    wall: Wall, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With callbacks waiting for room, log_metric finds some; without any it says what helps."""
    with tracker(wall.folder, **small) as handler:
        thread = threading.Thread(target=lambda: [end(handler, number) for number in range(12)])
        thread.start()
        until_in_thread(lambda: handler._sink._buffer.counts().waiting)
        assert handler.statistics().accepted == 10
        handler.log_metric("first", 1.0)
        assert handler.statistics().accepted == 11
        assert handler.statistics().dropped == {}
        handler.log_metric("second", 2.0)
        handler.log_parameters({"third": 3})
        assert handler.statistics().dropped == {"buffer_full": 2}
        wall.mend()
        thread.join()
    assert handler.statistics().delivered == 13
    (told,) = [r.getMessage() for r in caplog.records if "dropped an event" in r.getMessage()]
    assert "never wait for room. Raise max_buffer_bytes" in told
    assert "overflow=" not in told


def test_an_event_larger_than_the_buffer_passes_alone(tmp_path: Path) -> None:
    """An event larger than the whole buffer does not wait for ever."""
    with tracker(tmp_path, max_buffer_bytes=65_536, overflow="block") as handler:
        handler.on_chain_end("x" * 300_000, run_id=uuid.uuid4())
        handler.on_chain_end("small", run_id=uuid.uuid4())
    assert [len(text) for text in outputs(tmp_path)] == [300_000, 5]


def test_drop_newest_counts_and_warns_once(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    """With overflow="drop_newest" nothing waits: events are dropped, counted, told once."""
    options: Any = {**SMALL, "overflow": "drop_newest", "max_buffer_events": 10}

    async def main() -> None:
        async with tracker(wall.folder, **options) as handler:
            for number in range(100):
                await end(handler, number)
            statistics = handler.statistics()
            assert statistics.accepted == 10
            assert statistics.dropped == {"buffer_full": 90}
            wall.mend()

    asyncio.run(main())
    assert outputs(wall.folder) == list(range(10)), "the newest are dropped, not the oldest"
    told = [record for record in caplog.records if "dropped an event" in record.message]
    assert len(told) == 1
    assert "max_buffer_bytes" in told[0].message


def test_drop_newest_sheds_starts_before_ends_and_errors(wall: Wall) -> None:
    """When events have to be dropped, ends and errors find room when starts find none."""
    with tracker(
        wall.folder, overflow="drop_newest", max_buffer_events=100, max_batch_events=5
    ) as handler:
        for number in range(200):
            handler.on_chain_start(None, number, run_id=uuid.uuid4())
        starts = handler.statistics().accepted
        for number in range(200):
            end(handler, number)
            handler.on_chain_error(ValueError("x"), run_id=uuid.uuid4())
        assert (starts, handler.statistics().accepted) == (90, 100)
        wall.mend()
    kinds = audit_folder(wall.folder).kinds
    # As it closes, with the disk there again, it also says which spans never ended.
    abandoned = kinds.pop("span_abandoned")
    assert kinds == {"chain_start": 90, "chain_end": 5, "chain_error": 5}
    assert abandoned == 200


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_block_timeout(sync: bool, wall: Wall) -> None:
    """A callback waits for room for block_timeout at the most, then its event is dropped."""
    options: Any = {"block_timeout": 0.2, "close_timeout": 0.0, **SMALL, **MEMORY}

    async def main() -> Any:
        async with tracker(wall.folder, **options) as handler:
            for number in range(10):
                await end(handler, number)
            with stopwatch() as elapsed:
                await end(handler, 10)
                assert elapsed() >= 0.2
            return handler.statistics()

    if sync:
        with tracker(wall.folder, **options) as handler:
            for number in range(10):
                end(handler, number)
            with stopwatch() as elapsed:
                end(handler, 10)
                assert elapsed() >= 0.2
            statistics = handler.statistics()
    else:
        statistics = asyncio.run(main())
    assert statistics.accepted == 10
    assert statistics.dropped == {"block_timeout": 1}


def test_a_cancelled_callback_leaves_no_trace(wall: Wall, small: dict[str, Any]) -> None:
    """Cancelling a callback that waits for room cancels it; its event is counted as dropped."""

    async def main() -> None:
        async with tracker(wall.folder, **small) as handler:
            for number in range(10):
                await end(handler, number)
            waiting = [asyncio.create_task(end(handler, number)) for number in (10, 11, 12)]
            await until(lambda: handler._sink._buffer.counts().waiting == 3)
            waiting[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[1]
            assert handler.statistics().dropped == {"cancelled": 1}
            wall.mend()
            await asyncio.gather(waiting[0], waiting[2])

    asyncio.run(main())
    assert outputs(wall.folder) == [*range(11), 12]
    assert problems(wall.folder) == []


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_a_full_buffer_holds_up_no_cancellation(
    sync: bool, wall: Wall, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A chain that is cancelled while it waits for room ends: its errors do not wait again."""
    said: list[str] = []

    async def body(value: int, config: RunnableConfig) -> int:
        try:
            return await joke_chain().ainvoke({"topic": value}, config)  # type: ignore[return-value]
        finally:
            if not sync:  # whatever a task that is cancelled still says
                await end(config["configurable"]["handler"], value)
            said.append("left")

    async def main(kind: type[Any]) -> None:
        async with tracker(wall.folder, **small) as handler:
            used = kind(handler._sink)
            outer = RunnableLambda(body) | RunnableLambda(lambda value: value)
            config: RunnableConfig = {"callbacks": [used], "configurable": {"handler": handler}}
            # Fewer than asyncio's executor has threads: each synchronous callback occupies one.
            tasks = [asyncio.create_task(outer.ainvoke(n, config)) for n in range(4)]
            await until(lambda: handler._sink._buffer.counts().waiting == 4)
            for task in tasks:
                task.cancel()
            await until(lambda: all(task.done() for task in tasks))
            assert all(task.cancelled() for task in tasks)
            statistics = handler.statistics()
            assert statistics.balanced
            assert statistics.dropped["cancelled"] >= 4
            wall.mend()
        # That what is below was cancelled with it finds no room either.
        assert set(handler.statistics().dropped) <= {"cancelled", "buffer_full"}

    asyncio.run(main(SyncHandler if sync else AsyncHandler))
    told = [r.getMessage() for r in caplog.records if "was cancelled" in r.getMessage()]
    assert len(told) == 1


def test_a_time_limit_that_has_passed_is_over(wall: Wall, small: dict[str, Any]) -> None:
    """After a time limit the same task waits for room as before."""

    async def main() -> None:
        async with tracker(wall.folder, **small) as handler:
            config: RunnableConfig = {"callbacks": [handler]}
            for number in range(10):
                await end(handler, number)
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(joke_chain().ainvoke({"topic": "x"}, config), 0.05)
            with anyio.move_on_after(0.05):
                await joke_chain().ainvoke({"topic": "x"}, config)
            dropped = handler.statistics().dropped
            asyncio.get_running_loop().call_later(0.1, wall.mend)
            await end(handler, 10)
            assert handler.statistics().dropped == dropped

    asyncio.run(main())
    assert set(range(11)) <= set(outputs(wall.folder))


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), asyncio.CancelledError(), SystemExit()])
def test_a_thread_that_ends_does_not_wait_again(
    ending: BaseException, wall: Wall, small: dict[str, Any]
) -> None:
    """What a chain tells as Ctrl-C ends it takes the room there is, and waits for none."""
    with tracker(wall.folder, **small) as handler:
        handler.on_chain_error(ending, run_id=uuid.uuid4())
        for number in range(9):
            end(handler, number)
        handler.on_chain_error(ending, run_id=uuid.uuid4())  # into the reserved tenth
        handler.on_chain_error(ending, run_id=uuid.uuid4())
        assert handler.statistics().accepted == 11
        assert handler.statistics().dropped == {"cancelled": 1}
        wall.mend()


def test_a_loop_closed_while_a_callback_waits(wall: Wall, small: dict[str, Any]) -> None:
    """An event loop that is closed under a waiting callback disturbs nobody else."""
    tracking = tracker(wall.folder, **small)
    with tracking as handler:
        inline = AsyncHandler(handler._sink)
        loop = asyncio.new_event_loop()
        for number in range(10):
            loop.run_until_complete(end(inline, number))
        task = loop.create_task(end(inline, 10))
        for _ in range(5):
            loop.run_until_complete(asyncio.sleep(0))
        assert handler._sink._buffer.counts().waiting == 1
        # As a program that ends in a hurry: nothing is cancelled, nothing awaited.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
        loop.close()
        other = threading.Thread(target=lambda: end(handler, 11))
        other.start()
        until_in_thread(lambda: handler._sink._buffer.counts().waiting == 2)
        wall.mend()
        other.join()
        del task
        gc.collect()
    assert outputs(wall.folder) == list(range(12))
    assert handler.statistics().balanced


# -- flush ----------------------------------------------------------------------------------------


def test_flush_tells_whether_all_is_delivered(wall: Wall) -> None:
    """flush returns False when its time is over, and True once everything is delivered."""

    async def main() -> None:
        async with tracker(wall.folder) as handler:
            await end(handler)
            with stopwatch() as elapsed:
                assert await handler.flush(0.2) is False
                assert elapsed() >= 0.2
            waiting = asyncio.create_task(handler.flush())
            wall.mend()
            assert await waiting is True
            assert handler.statistics().delivered == 1
            await end(handler)
            assert await handler.flush() is True
            assert handler.statistics().delivered == 2

    asyncio.run(main())


def test_flush_of_the_sync_handler(wall: Wall) -> None:
    """The same for the synchronous handler, and flush_tracker starts one without waiting."""
    with tracker(wall.folder) as handler:
        end(handler)
        with stopwatch() as elapsed:
            assert handler.flush(0.2) is False
            assert elapsed() >= 0.2
        flush = handler.flush_tracker()
        assert not flush.done()
        wall.mend()
        assert flush.result(120) is True
        assert handler.statistics().delivered == 1


def test_a_flush_that_its_loop_did_not_wait_for(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """A flush may end after the event loop that asked for it is closed: nothing is complained."""
    with tracker(wall.folder) as handler:
        end(handler)
        assert asyncio.run(AsyncHandler(handler._sink).flush(0.05)) is False
        wall.mend()
        assert handler.flush(120) is True
    assert [record for record in caplog.records if record.name != "asynctrack"] == []


def test_callbacks_after_the_end_are_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback after the block is dropped with a reason; one warning says what to do."""

    async def main() -> AsyncHandler:
        async with tracker(tmp_path) as handler:
            await end(handler)
        for _ in range(3):
            await end(handler)
        handler.log_metric("m", 1.0)
        assert await handler.flush() is True
        return handler

    handler = asyncio.run(main())
    assert handler.statistics().dropped == {"closed": 4}
    told = [record for record in caplog.records if "after the tracker was closed" in record.message]
    assert len(told) == 1
    assert outputs(tmp_path) == [0]


def test_a_tracker_is_entered_once(tmp_path: Path) -> None:
    """Entering a tracker a second time is an error that says so."""
    tracking = tracker(tmp_path)
    with tracking, pytest.raises(StateError, match="open already"):
        tracking.__enter__()
    with pytest.raises(StateError, match="closed already"):
        tracking.__enter__()


# -- leaving the block ----------------------------------------------------------------------------


class OurError(Exception):
    """What the body raises."""


@pytest.mark.parametrize("raised", [OurError("x"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_the_bodys_exception_comes_out_itself(
    sync: bool, raised: BaseException, tmp_path: Path
) -> None:
    """What the body raised comes out, the same object and in no group, and all is delivered."""

    async def block() -> None:
        async with tracker(tmp_path) as handler:
            await end(handler)
            raise raised

    async def main() -> BaseException | None:
        try:
            await block()
        except BaseException as error:
            return error
        return None

    caught: BaseException | None = None
    if sync:
        try:
            with tracker(tmp_path) as handler:
                end(handler)
                raise raised
        except BaseException as error:
            caught = error
    else:
        caught = asyncio.run(main())
    assert caught is raised
    assert caught.__cause__ is None
    assert caught.__context__ is None
    assert outputs(tmp_path) == [0]


class Stuck(logging.Handler):
    """Holds up whoever logs until it is let go: what hangs the worker's own thread."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_go = threading.Event(), threading.Event()

    def handle(self, record: logging.LogRecord) -> bool:  # not emit: that is called with a lock
        if threading.current_thread().name == "asynctrack":
            self.reached.set()
            self.let_go.wait(240)
        return True


def test_a_worker_that_hangs_is_left_behind(wall: Wall) -> None:
    """Leaving ends at close_timeout though the worker hangs, and nothing is accepted after it."""
    stuck = Stuck()
    logger = logging.getLogger("asynctrack")
    logger.addHandler(stuck)
    try:
        with tracker(wall.folder, close_timeout=0.1, **MEMORY) as handler:
            end(handler)
            assert stuck.reached.wait(120)  # it tells that it cannot write
        end(handler)
        assert handler.statistics().dropped == {"close_timeout": 1}
        assert handler.statistics().accepted == 1
    finally:
        logger.removeHandler(stuck)
        stuck.let_go.set()
    until_in_thread(lambda: not our_threads())


async def _until_closing(tracking: Any) -> None:
    await until(lambda: tracking._state == "closed")


@pytest.mark.parametrize("cancels", [1, 2, 3])
def test_cancelled(cancels: int, wall: Wall) -> None:
    """Cancelled, also again while it flushes: everything is delivered, then the task ends so."""

    async def block(tracking: Any, started: asyncio.Event) -> None:
        async with tracking as handler:
            await end(handler)
            started.set()
            await asyncio.Event().wait()

    async def main() -> None:
        started = asyncio.Event()
        tracking = tracker(wall.folder)
        task = asyncio.create_task(block(tracking, started))
        await started.wait()
        task.cancel()
        await _until_closing(tracking)
        for _ in range(cancels - 1):
            assert not task.done()
            task.cancel()
            for _turn in range(5):
                await asyncio.sleep(0)
        assert not task.done()
        wall.mend()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert tracking.statistics().delivered == 1

    asyncio.run(main())
    assert outputs(wall.folder) == [0]


def test_cancelled_while_leaving_a_block_that_ended_well(wall: Wall) -> None:
    """A cancellation that comes only while it flushes is passed on when that is done."""

    async def block(tracking: Any) -> None:
        async with tracking as handler:
            await end(handler)

    async def main() -> None:
        tracking = tracker(wall.folder)
        task = asyncio.create_task(block(tracking))
        await _until_closing(tracking)
        task.cancel()
        await asyncio.sleep(0)
        wall.mend()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tracking.statistics().delivered == 1

    asyncio.run(main())


def test_inside_a_time_limit(wall: Wall) -> None:
    """A time limit around the block ends it as TimeoutError, after everything is delivered."""

    entered = asyncio.Event()  # a limit may also come while it is entered; not what is tested

    async def block(tracking: Any) -> None:
        async with tracking as handler:
            await end(handler)
            entered.set()
            await asyncio.Event().wait()

    async def mend(tracking: Any) -> None:
        await _until_closing(tracking)
        wall.mend()

    async def limited(tracking: Any) -> None:
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(None) as limit:
                starting = asyncio.create_task(start(limit))
                await block(tracking)
            await starting
        else:
            blocked = asyncio.create_task(block(tracking))
            await entered.wait()
            await asyncio.wait_for(blocked, 0.1)

    async def start(limit: Any) -> None:
        await entered.wait()
        limit.reschedule(asyncio.get_running_loop().time() + 0.1)

    async def main() -> None:
        tracking = tracker(wall.folder)
        mending = asyncio.create_task(mend(tracking))
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await limited(tracking)
        await mending
        assert tracking.statistics().delivered == 1

    asyncio.run(main())


def test_inside_an_anyio_time_limit(wall: Wall) -> None:
    """The same for anyio's, which cancels again and again."""

    async def main() -> None:
        tracking = tracker(wall.folder)
        with anyio.CancelScope() as scope:
            async with tracking as handler:
                await end(handler)
                scope.deadline = anyio.current_time() + 0.1
                asyncio.get_running_loop().call_later(0.3, wall.mend)
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert tracking.statistics().delivered == 1

    asyncio.run(main())


def test_inside_a_task_group_cancelled_from_outside(wall: Wall) -> None:
    """In a task group that is cancelled everything is delivered before the group ends."""

    async def block(tracking: Any, *, task_status: Any) -> None:
        async with tracking as handler:
            await end(handler)
            task_status.started()
            await anyio.sleep_forever()

    async def main() -> None:
        tracking = tracker(wall.folder)
        async with anyio.create_task_group() as group:
            await group.start(block, tracking)
            group.cancel_scope.cancel()
            asyncio.get_running_loop().call_later(0.2, wall.mend)
        assert tracking.statistics().delivered == 1

    asyncio.run(main())


@pytest.mark.parametrize("durability", ["memory", "process"])
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_close_timeout_is_kept(
    sync: bool, durability: str, wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving takes close_timeout when nothing can be delivered; what is left is counted, told."""

    def on_disk(handler: Any) -> bool:  # when the time is over, the disk gets no more than a moment
        return durability == "memory" or handler.statistics().spooled == 7

    async def main() -> tuple[Any, float]:
        async with tracker(wall.folder, close_timeout=1.0, durability=durability) as handler:
            for number in range(7):
                await end(handler, number)
            await until(lambda: on_disk(handler))
            began = time.monotonic()
        return handler.statistics(), time.monotonic() - began

    if sync:
        with tracker(wall.folder, close_timeout=1.0, durability=durability) as handler:
            for number in range(7):
                end(handler, number)
            until_in_thread(lambda: on_disk(handler))
            began = time.monotonic()
        statistics, took = handler.statistics(), time.monotonic() - began
    else:
        statistics, took = asyncio.run(main())
    assert 0.9 <= took < 30
    assert (statistics.accepted, waiting(statistics), statistics.delivered) == (7, 7, 0)
    assert (statistics.pending if durability == "memory" else statistics.spooled) == 7
    (told,) = [record for record in caplog.records if "could not deliver" in record.message]
    assert "7 of 7 events" in told.getMessage()
    assert ("they are lost" if durability == "memory" else "on disk in") in told.getMessage()
    until_in_thread(lambda: our_threads() == [])


def test_callbacks_that_wait_when_the_time_is_over(wall: Wall, small: dict[str, Any]) -> None:
    """Callbacks that still wait for room when close_timeout is over are let go and counted."""

    async def main() -> None:
        async with tracker(wall.folder, close_timeout=0.3, **small) as handler:
            tasks = [asyncio.create_task(end(handler, number)) for number in range(15)]
            await until(lambda: handler._sink._buffer.counts().waiting == 5)
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        statistics = handler.statistics()
        assert (statistics.accepted, waiting(statistics)) == (10, 10)
        assert statistics.dropped == {"close_timeout": 5}

    asyncio.run(main())


def test_what_comes_in_while_it_closes_is_delivered(wall: Wall) -> None:
    """Callbacks of tasks that still run while the block is left are delivered or counted."""

    async def log(handler: AsyncHandler) -> None:
        for number in range(500):
            await end(handler, number)
            await asyncio.sleep(0)

    async def main() -> None:
        async with tracker(wall.folder) as handler:
            task = asyncio.create_task(log(handler))
            asyncio.get_running_loop().call_later(0.2, wall.mend)
        await task
        statistics = handler.statistics()
        assert statistics.accepted == statistics.delivered
        assert statistics.accepted + statistics.dropped.get("closed", 0) == 500

    asyncio.run(main())
    found = outputs(wall.folder)
    assert found == list(range(len(found)))
    assert problems(wall.folder) == []


# -- the process ----------------------------------------------------------------------------------


PATIENCE_WITH_A_CHILD = 150.0
"""Seconds for what takes one or two, on a machine that does other things as well."""


def run_child(
    code: str, folder: Path, *, flags: tuple[str, ...] = (), stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Run a program that tracks into a folder, given as `folder`, in a process of its own."""
    program = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{textwrap.dedent(code)}"
    return subprocess.Popen(
        [sys.executable, *flags, "-c", program],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


ENDLESS = """
    import asyncio, uuid
    from asynctrack import tracker
    async def main():
        async with tracker(folder) as handler:
            for number in range(10):
                await handler.on_chain_end(number, run_id=uuid.uuid4())
            try:
                print("ready", flush=True)
                for _ in range(6000):
                    await asyncio.sleep(0.1)
            finally:
                print("leaving", flush=True)
    asyncio.run(main())
"""

# In short sleeps: CPython does not see a signal that comes when a thread has let go of the GIL
# for a sleep, or for a look at its sockets, and is not asleep yet; it goes on after it.

ENDLESS_SYNC = """
    import time, uuid
    from asynctrack import tracker
    with tracker(folder, close_timeout=600, close_patience=600) as handler:
        for number in range(10):
            handler.on_chain_end(number, run_id=uuid.uuid4())
        try:
            print("ready", flush=True)
            for _ in range(6000):
                time.sleep(0.1)
        finally:
            print("leaving", flush=True)
"""


# Of the main thread, by another one: that it waits for the end of the close, and is asleep there.
TELLS_THAT_IT_WAITS = """
    import sys, threading, time
    def watch():
        while True:
            frame, names = sys._current_frames()[threading.main_thread().ident], []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            if {"_wait_closed", "result"} <= set(names) and asleep():
                print("waiting", flush=True)
                return
            time.sleep(0.01)
    def asleep():
        try:
            return open("/proc/self/stat").read().rpartition(")")[2].split()[0] == "S"
        except OSError:  # not on Linux
            return True
    threading.Thread(target=watch, daemon=True).start()
"""


@pytest.mark.parametrize("code", [ENDLESS, ENDLESS_SYNC], ids=["async", "sync"])
def test_keyboard_interrupt(code: str, tmp_path: Path) -> None:
    """Ctrl-C in the body delivers everything and ends the program as Ctrl-C does."""
    child = run_child(code, tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    assert child.returncode in (-signal.SIGINT, 130)
    assert "KeyboardInterrupt" in errors
    assert "ExceptionGroup" not in errors
    assert outputs(tmp_path) == list(range(10))


def test_keyboard_interrupt_twice(wall: Wall) -> None:
    """A second Ctrl-C while an async block flushes does not lose what is being delivered."""
    child = run_child(ENDLESS, wall.folder)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "leaving\n"
    child.send_signal(signal.SIGINT)
    wall.mend()
    _, errors = child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    assert child.returncode in (-signal.SIGINT, 130)
    assert "KeyboardInterrupt" in errors
    assert outputs(wall.folder) == list(range(10))


def test_keyboard_interrupt_twice_in_synchronous_code(wall: Wall) -> None:
    """A second Ctrl-C while a sync block flushes ends the wait and says what is left."""
    program = textwrap.dedent(TELLS_THAT_IT_WAITS) + textwrap.dedent(ENDLESS_SYNC)
    child = run_child(program, wall.folder)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "leaving\n"
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    # Before the ten minutes of close_timeout are over.
    _, errors = child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    assert "KeyboardInterrupt" in errors
    assert "could not deliver 10 of 10 events" in errors


SLOW_TO_LEAVE = """
    import asyncio, uuid
    from asynctrack import tracker
    async def main():
        async with tracker(folder, close_patience=60.0) as handler:
            for number in range(8):
                await handler.on_chain_end(number, run_id=uuid.uuid4())
    asyncio.run(main())
"""

SLOW_TO_LEAVE_SYNC = """
    import uuid
    from asynctrack import tracker
    with tracker(folder, close_patience=60.0) as handler:
        for number in range(8):
            handler.on_chain_end(number, run_id=uuid.uuid4())
"""


@pytest.mark.parametrize("code", [SLOW_TO_LEAVE, SLOW_TO_LEAVE_SYNC], ids=["async", "sync"])
def test_the_progress_bar_counts_what_is_delivered(code: str, wall: Wall) -> None:
    """On a terminal, leaving shows how many events are delivered: none while nothing can be."""
    terminal, tty = pty.openpty()
    child = run_child(code, wall.folder, stderr=tty)
    os.close(tty)
    shown, mended = b"", False
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as screen:
        while chunk := screen.read(4096):
            shown += chunk
            assert mended or b"8/8" not in shown
            if shown.count(b"0/8") > 5 and not mended:  # it is drawn ten times a second
                mended = True
                wall.mend()
    child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    assert child.returncode == 0, shown
    assert b"delivering events" in shown
    assert b"0/8" in shown
    assert outputs(wall.folder) == list(range(8))


FORGETFUL = """
    import asyncio, uuid
    from asynctrack import tracker
    async def main():
        handler = await tracker(folder).__aenter__()
        for number in range(10):
            await handler.on_chain_end(number, run_id=uuid.uuid4())
    asyncio.run(main())
"""

FORGETFUL_SYNC = """
    import uuid
    from asynctrack import tracker
    handler = tracker(folder).__enter__()
    for number in range(10):
        handler.on_chain_end(number, run_id=uuid.uuid4())
"""


@pytest.mark.parametrize("code", [FORGETFUL, FORGETFUL_SYNC], ids=["async", "sync"])
def test_a_block_never_left_delivers_at_the_interpreters_end(code: str, tmp_path: Path) -> None:
    """A program that ends without leaving the block delivers, and hears of it in development."""
    child = run_child(code, tmp_path, flags=("-W", "always::ResourceWarning"))
    _, errors = child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    assert child.returncode == 0, errors
    assert outputs(tmp_path) == list(range(10))
    assert "ResourceWarning" in errors
    assert "asynctrack.Tracker" in errors


def test_a_forgotten_tracker_as_an_error_still_delivers(tmp_path: Path) -> None:
    """Where ResourceWarning is an error, everything is delivered all the same."""
    child = run_child(FORGETFUL_SYNC, tmp_path, flags=("-W", "error::ResourceWarning"))
    child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    assert outputs(tmp_path) == list(range(10))


def test_nothing_is_said_of_a_tracker_that_was_closed(tmp_path: Path) -> None:
    """A program that leaves its block ends without a word."""
    code = """
        import uuid
        from asynctrack import tracker
        with tracker(folder) as handler:
            handler.on_chain_end(1, run_id=uuid.uuid4())
        tracker(folder)  # never entered: nothing to close
    """
    child = run_child(code, tmp_path, flags=("-W", "always"))
    out, errors = child.communicate(timeout=PATIENCE_WITH_A_CHILD)
    ours = [line for line in errors.splitlines() if "asynctrack" in line]
    assert (child.returncode, out, ours) == (0, "", [])


# -- the folder -----------------------------------------------------------------------------------


def test_the_local_layout(tmp_path: Path) -> None:
    """A folder gets the layout S3 gets, with the names of the options, and no unfinished file."""
    with tracker(
        tmp_path / "out",
        experiment_name="my.exp",
        run_name="run-7",
        prefix="a/b",
        compression="gzip",
    ) as handler:
        joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
    audit = audit_folder(tmp_path / "out")
    assert_exactly_once(audit, CHAIN_EVENTS)
    (writer,) = audit.writers
    (found,) = audit.objects
    root = "a/b/asynctrack/v1/experiment=my.exp/run=run-7"
    assert found.key.startswith(f"{root}/dt=")
    assert found.key.endswith(f"/{writer}-{1:012d}-{CHAIN_EVENTS:012d}.jsonl.gz")
    assert audit.others == (f"{root}/_manifest/{writer}.json",)


def test_each_run_without_a_name_gets_one(tmp_path: Path) -> None:
    """Two trackers into one folder are two runs of the experiment "default"."""
    for _ in range(2):
        with tracker(tmp_path) as handler:
            end(handler)
    runs = list((tmp_path / "asynctrack/v1/experiment=default").iterdir())
    assert len(runs) == 2


def test_two_writers_share_a_folder(tmp_path: Path) -> None:
    """Two trackers into one Run's folder at once keep apart, a manifest each."""
    out = tmp_path / "out"
    names = {"experiment_name": "e", "run_name": "r"}
    with tracker(out, **names) as one, tracker(out, **names) as two:
        for number in range(20):
            end(one if number % 2 else two, number)
    audit = audit_folder(out)
    assert problems(out) == []
    assert sorted(len(writer.seqs) for writer in audit.writers.values()) == [10, 10]
    assert len(audit.others) == 2


def test_a_folder_that_cannot_be_written_disturbs_no_chain(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """A chain whose folder cannot be written runs as if nothing were, and one warning tells."""
    with tracker(wall.folder, close_patience=0.2) as handler:
        answer = joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
        until_in_thread(lambda: any("cannot reach" in r.getMessage() for r in caplog.records))
    assert answer == "a fish walks in"
    assert waiting(handler.statistics()) == CHAIN_EVENTS
    told = [r.getMessage() for r in caplog.records if "cannot reach its backend" in r.getMessage()]
    assert len(told) == 1
    assert "Events wait" in told[0]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.may_block("no event loop of asyncio in here")
def test_in_a_trio_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The synchronous tracker works there, manifest and all; the other one says what to do."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        with tracker(tmp_path, run_name="one") as handler:
            joke_chain().invoke({"topic": "fish"}, config={"callbacks": [handler]})
        assert handler.statistics().delivered == CHAIN_EVENTS
        with pytest.raises(StateError, match="use 'with tracker"):
            async with tracker(tmp_path):
                pass

    trio.run(main)
    assert len(list(tmp_path.rglob("_manifest/*.json"))) == 1
    assert caplog.text == ""


@pytest.mark.may_block("no event loop in here")
def test_a_relative_folder_is_the_one_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the program, or a child of it, changes its directory: folder and spool."""
    # A closing waits for what others have left, here however slow the machine is.
    monkeypatch.setattr("asynctrack._engine.closing.REPLAY_GRACE", 120.0)
    monkeypatch.chdir(tmp_path)
    made = tracker("runs", run_name="one", spool_dir="spool")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    with made as handler:
        end(handler)
        pid = os.fork()
        if pid == 0:
            os.chdir("/")
            end(handler, 1)
            os._exit(0)
        os.waitpid(pid, 0)
        assert len(list((tmp_path / "spool/v1").iterdir())) == 2
    with tracker(tmp_path / "runs", run_name="two", spool_dir=tmp_path / "spool"):
        pass  # delivers what the child has left
    assert sorted(outputs(tmp_path / "runs")) == [0, 1]
    assert list((tmp_path / "sub").iterdir()) == []


async def test_a_chain_that_nobody_awaited_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its events come too late; that its parameters are in no Run is no other trouble."""
    begin = asyncio.Event()

    async def late(handler: AsyncHandler) -> None:
        await begin.wait()
        await joke_chain().ainvoke({"topic": "fish"}, config={"callbacks": [handler]})

    made = tracker(tmp_path)
    async with made as handler:
        task = asyncio.create_task(late(handler))
        loop, recorder = asyncio.get_running_loop(), made._pipeline.recorder
        end_recorder = recorder.end

        def end() -> None:  # in the worker's thread, after the last write
            loop.call_soon_threadsafe(begin.set)
            until_in_thread(task.done)
            end_recorder()

        recorder.end = end  # type: ignore[method-assign]
    await task
    (told,) = [one.getMessage() for one in caplog.records]
    assert "after the tracker was closed" in told


@pytest.mark.may_block("the event loop is held up until the worker would have closed the buffer")
async def test_closing_hears_out_what_is_about_to_end(tmp_path: Path) -> None:
    """LangChain says in a task of its own that a stream was left, after the block is left."""
    tracking = tracker(tmp_path)
    async with tracking as handler:
        run_id = uuid.uuid4()
        await handler.on_chain_start(None, "x", run_id=run_id)

        async def says() -> None:
            await asyncio.sleep(0)
            until = time.monotonic() + 0.3
            while handler._sink._buffer.closed_reason is None and time.monotonic() < until:
                time.sleep(0.001)
            await handler.on_chain_end("left", run_id=run_id)

        saying = asyncio.create_task(says())
    await saying
    statistics = tracking.statistics()
    assert statistics.delivered == statistics.accepted == 2 and not statistics.dropped


async def test_closing_waits_for_no_span_that_goes_on(tmp_path: Path) -> None:
    """One that stays open is abandoned, also where the task that closes is cancelled meanwhile."""
    tracking = tracker(tmp_path)

    async def block() -> None:
        async with tracking as handler:
            await handler.on_chain_start(None, "x", run_id=uuid.uuid4())
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(block())
    assert tracking.statistics().delivered == 2 and not tracking.statistics().dropped
