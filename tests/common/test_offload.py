"""Blocking work of the worker, also when no thread can be started any more."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import anyio
import pytest

from asynctrack import tracker
from asynctrack._common.offload import SLOW_THREADS, offload
from asynctrack._engine.loop import run_loop
from tests.support.auditor import audit_folder


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python 3.12 does from the moment the interpreter ends, which older ones do not."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    for name in ("_start_new_thread", "_start_joinable_thread"):
        if hasattr(threading, name):
            monkeypatch.setattr(threading, name, refuse)


def idents(call: Any) -> tuple[int, int]:
    """Run a coroutine function in the worker's kind of loop; where it was, and where that ran."""
    found: list[int] = []

    async def main() -> None:
        found.append(await call())

    run_loop(main())
    return threading.get_ident(), found[0]


def test_it_runs_in_a_thread() -> None:
    """As long as there are threads, blocking work has one."""
    here, there = idents(lambda: offload(threading.get_ident))
    assert here != there


@pytest.mark.usefixtures("no_threads")
def test_without_threads_it_runs_where_it_is() -> None:
    """Once no thread can be started, the work is done all the same, once."""
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        return threading.get_ident()

    here, there = idents(lambda: offload(work))
    assert here == there and len(calls) == 1


@pytest.mark.parametrize("error", [RuntimeError("its own"), ValueError("its own")])
def test_its_own_errors_come_out_after_one_call(error: Exception) -> None:
    """What the function raises is raised; it is not taken for a missing thread."""
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        raise error

    with pytest.raises(type(error), match="its own"):
        idents(lambda: offload(work))
    assert len(calls) == 1


@pytest.mark.parametrize("threads", [True, False])
def test_names_are_resolved(threads: bool, request: pytest.FixtureRequest) -> None:
    """A host's address is found with threads and without, and a failure comes out."""
    if not threads:
        request.getfixturevalue("no_threads")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("127.0.0.1", 80)
        assert found[0][4] == ("127.0.0.1", 80)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("127.0.0.1", 80, family=socket.AF_INET6)

    run_loop(main())


def test_the_loop_ends_its_tasks() -> None:
    """What still runs when the coroutine ends is cancelled and waited for."""
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("yes")

    async def main() -> None:
        main.task = asyncio.create_task(endless())  # type: ignore[attr-defined]  # held somewhere
        await asyncio.sleep(0)

    run_loop(main())
    assert ended == ["yes"]


def test_a_tracker_delivers_without_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A tracker whose worker can start no thread delivers everything, spool and all."""
    with tracker(tmp_path / "runs") as handler:
        request.getfixturevalue("no_threads")
        for number in range(10):
            handler.on_chain_end(number, run_id=uuid.uuid4())
    assert handler.statistics().delivered == 10
    assert audit_folder(tmp_path / "runs").events == 10


def test_a_cancelled_scope_ends_a_series_of_calls() -> None:
    """What has begun is done, and its result kept; the next call does not begin."""
    done: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        kept: list[int] = []
        with anyio.CancelScope() as scope:

            def call(number: int) -> int:
                done.append(number)
                if number == 2:
                    loop.call_soon_threadsafe(scope.cancel)
                    while not scope.cancel_called:
                        threading.Event().wait(0.001)
                return number

            for number in range(20):
                kept.append(await offload(call, number))  # noqa: PERF401  # it ends midway
        assert scope.cancelled_caught
        assert kept == [0, 1, 2]

    run_loop(main())
    assert done == [0, 1, 2]


def test_a_call_that_raises_a_cancellation_cancels_nobody() -> None:
    """Code of the user's may use a loop of its own, which cancels: that is an error like others."""

    def cancelled() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(RuntimeError, match="CancelledError"):
            await offload(cancelled)

    run_loop(main())


def test_a_slow_disk_gets_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each call takes long, some go on side by side; few, as it may be the machine."""
    # One that gets no processor for half a second would be taken for a disk that hangs.
    monkeypatch.setattr("asynctrack._common.offload.HANGING", 1_000_000)
    at_once = most = 0
    lock = threading.Lock()
    pause = threading.Event()  # nobody sets it: a disk that takes its time

    def slow() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        pause.wait(0.15)
        with lock:
            at_once -= 1

    async def main() -> None:
        await asyncio.gather(*(offload(slow) for _ in range(40)))

    run_loop(main())
    assert 2 <= most <= SLOW_THREADS


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="Linux tells")
def test_calls_that_wait_for_the_processor_do_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine with too much to do makes slow gets no threads: they would make it slower."""
    monkeypatch.setattr("asynctrack._common.offload.HANGING", 3)
    threads: set[int] = set()

    def compute() -> None:
        threads.add(threading.get_ident())
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            pass

    async def main() -> None:
        await asyncio.gather(*(offload(compute) for _ in range(4)))

    run_loop(main())
    assert len(threads) <= SLOW_THREADS


@pytest.mark.parametrize("hanging", [1, 20])
def test_calls_that_hang_hold_up_no_other(hanging: int) -> None:
    """Those that do not return until all others have are passed by."""
    others = threading.Event()

    async def main() -> None:
        hung = [asyncio.ensure_future(offload(others.wait, 240)) for _ in range(hanging)]
        assert [await offload(int, str(number)) for number in range(50)] == list(range(50))
        others.set()
        assert all(await asyncio.gather(*hung))

    run_loop(main())


def test_threads_end_when_they_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has had nothing to do ends, and the next call has another one."""
    monkeypatch.setattr("asynctrack._common.offload.IDLE", 0.01)

    def ours() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "asynctrack-offload"]

    async def main() -> None:
        for _ in range(20):
            assert await offload(int, "7") == 7
            while ours():
                await asyncio.sleep(0)

    run_loop(main())
