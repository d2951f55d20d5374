"""The engine: one for the process, for as long as there are trackers, and fair between them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack._backends import local
from asynctrack._delivery.takeover import Replayer
from asynctrack._engine import at_exit
from asynctrack._engine import engine as engine_module
from asynctrack._engine.engine import current
from asynctrack._engine.stages import Stages
from asynctrack._spool.layout import default_spool_dir, writers
from asynctrack.testing import end_engine
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import finish, start_child
from tests.support.auditor import audit_folder, events_in_folder

EVENTS = 16


@pytest.fixture(autouse=True)
def earlier() -> Iterator[None]:
    """Threads of the tests before, which may take their time to end on a busy machine."""
    _earlier.update(threading.enumerate())
    yield
    _earlier.clear()


_earlier: set[threading.Thread] = set()


def ours() -> list[threading.Thread]:
    """The engines' threads that this test has begun."""
    return [
        one for one in threading.enumerate() if one.name == "asynctrack" and one not in _earlier
    ]


def log(handler: Any, count: int = EVENTS) -> None:
    for number in range(count):
        handler.on_chain_end({"n": number}, run_id=uuid.uuid4())


async def track(folder: Path, run: str, count: int = EVENTS) -> int:
    async with tracker(folder, run_name=run) as handler:
        for number in range(count):
            await handler.on_chain_end({"n": number}, run_id=uuid.uuid4())
    return handler.statistics().delivered


@pytest.mark.may_block("the test looks into the spool")
async def test_many_trackers_share_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred at once: one thread with a loop, two for the disk, nothing lost, no warning."""
    # A disk that stalls for half a second, as one does that others use, gets more of them.
    monkeypatch.setattr("asynctrack._common.offload.HANGING", 1_000_000)
    before = set(threading.enumerate())  # those of a test before it end when nothing comes
    # Nothing is cut before the spool was looked into, however long it takes to fill it.
    entered = [
        tracker(tmp_path / "out", run_name=f"r{number}", max_delay=3600) for number in range(200)
    ]
    handlers = await asyncio.gather(*(one.__aenter__() for one in entered))
    assert len(ours()) == 1
    for handler in handlers:
        for _ in range(EVENTS // 2):
            span = uuid.uuid4()
            await handler.on_chain_start(None, {"text": "x" * 600}, run_id=span)
            await handler.on_chain_end({"text": "x" * 600}, run_id=span)
    folders = writers(default_spool_dir())
    assert len(folders) == 200
    for folder in folders:
        assert sum(file.stat().st_blocks * 512 for file in folder.iterdir()) <= 64 * 1024
    await asyncio.gather(*(one.aclose() for one in entered))
    # Besides the test's: the engine, two for the disk. pytest may have one of its own.
    new = set(threading.enumerate()) - before
    assert len([one for one in new if one.name.startswith("asynctrack")]) <= 4
    assert sum(handler.statistics().delivered for handler in handlers) == 200 * EVENTS
    assert audit_folder(tmp_path / "out").problems == ()
    assert writers(default_spool_dir()) == []
    assert caplog.messages == []


def test_it_is_gone_after_the_last_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays for the next tracker for a while, then thread and loop end; and begin anew."""
    monkeypatch.setattr(engine_module, "LINGER", 0.05)
    for _ in range(2):
        with tracker(tmp_path / "out") as handler:
            log(handler)
            (thread,) = ours()
        until_in_thread(lambda: not ours())
        thread.join(60)  # it leaves Python's list a moment before it ends
        assert not thread.is_alive()
        assert handler.statistics().delivered == EVENTS


def test_the_next_tracker_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, trackers use the same thread."""
    monkeypatch.setattr(engine_module, "LINGER", 240.0)  # however long the next one takes to come
    seen = set()
    for _ in range(5):
        with tracker(tmp_path / "out") as handler:
            log(handler)
            seen |= {one.ident for one in ours()}
    assert len(seen) == 1


def test_trackers_that_come_as_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a tracker comes while the engine ends, it has the old one or a new one."""
    monkeypatch.setattr(engine_module, "LINGER", 0.0)
    delivered = 0
    for _ in range(100):
        with tracker(tmp_path / "out") as handler:
            log(handler, 1)
        delivered += handler.statistics().delivered
    assert delivered == 100


def test_an_error_in_one_tracker_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails in the stages of one tracker leaves the others alone, and its events on disk."""
    goes_wrong = threading.Event()
    original = Stages._next_piece

    async def fail(self: Stages) -> Any:
        if self._buffer is broken[0]:
            goes_wrong.set()
            raise ValueError("an error of ours")
        return await original(self)

    broken: list[Any] = [None]
    monkeypatch.setattr(Stages, "_next_piece", fail)
    with tracker(tmp_path / "out", run_name="good") as good:
        made = tracker(tmp_path / "out", run_name="bad", close_timeout=5)
        broken[0] = made._pipeline.buffer
        with made as bad:
            assert goes_wrong.wait(60)
            log(bad)
            log(good)
        assert bad.statistics().spooled == EVENTS
    assert good.statistics().delivered == EVENTS
    assert "has ended because of an error in it" in caplog.text
    with tracker(tmp_path / "out", run_name="next"):
        until_in_thread(lambda: len(events_in_folder(tmp_path / "out")) == 2 * EVENTS)


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk that does not answer until the test is over."""
    folder = tmp_path / "hangs"
    answers = threading.Event()
    write = local._write

    def hang(path: Path, content: bytes) -> None:
        if folder in path.parents:
            answers.wait(120)
        write(path, content)

    monkeypatch.setattr(local, "_write", hang)
    yield folder
    answers.set()
    end_engine(60)


def test_one_that_hangs_holds_up_no_other(tmp_path: Path, hanging: Path) -> None:
    """Trackers whose disk does not answer hold up neither delivery nor closing of the others."""
    stuck = [
        tracker(hanging, run_name=f"r{n}", close_timeout=0.1, max_delay=0.01) for n in range(8)
    ]
    for one in stuck:
        log(one.__enter__())
    for number in range(10):
        with tracker(tmp_path / "out", run_name=f"good{number}") as handler:
            log(handler)
        assert handler.statistics().delivered == EVENTS
    for one in stuck:
        one.close()


def test_a_close_that_nobody_waits_for_any_more_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain is open and Ctrl-C has ended the wait: the engine goes on for the others."""
    answers, write = threading.Event(), local._write

    def hang(path: Path, content: bytes) -> None:
        if "left" in path.parts:
            answers.wait(120)
        write(path, content)

    monkeypatch.setattr(local, "_write", hang)
    with tracker(tmp_path / "out", run_name="other") as other:
        made = tracker(tmp_path / "left", run_name="r")
        made.__enter__().on_chain_start({}, {"x": 1}, run_id=uuid.uuid4())
        closing = threading.Thread(target=made.close)
        closing.start()
        until_in_thread(lambda: made._pipeline.delivery.under_way)
        made._pipeline.buffer.close("close_timeout")  # as whoever has waited does in the end
        answers.set()
        closing.join(60)
        assert not closing.is_alive()
        log(other)
        assert other.flush(60) is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_waits_for_no_segment_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tracks its first event makes its first segment: the engine does not wait for one."""
    monkeypatch.setattr("asynctrack._engine.stages.SPOOL_FIRST", 3600.0)
    with tracker(tmp_path / "out", run_name="parent") as handler:
        log(handler, 1)
        child = os.fork()
        if not child:
            try:
                log(handler, 1)
                os._exit(not handler.flush(60))
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0


def test_spools_that_nobody_uses_any_more_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What looked for their leftovers ends, and asyncio finds nothing to complain of."""
    monkeypatch.setattr("asynctrack._engine.engine.MAX_SPOOLS", 1)
    looking: list[weakref.ref[Replayer]] = []
    for number in range(5):
        with tracker(tmp_path / "out", spool_dir=tmp_path / f"{number}") as handler:
            log(handler, 1)
            looking += map(weakref.ref, current()._replayers.values())
    # While the engine's loop runs, which would end all that is left in it.
    until_in_thread(lambda: gc.collect() >= 0 and sum(one() is not None for one in looking) <= 1)
    assert end_engine(60)
    assert caplog.messages == []


def test_one_cause_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty trackers that fail alike: one line for the first, one for how many more there are."""
    wall = Wall(tmp_path)
    open_ones = [
        tracker(
            wall.folder, run_name=f"r{n}", close_timeout=0.2, close_patience=0.1, max_delay=0.05
        )
        for n in range(20)
    ]
    handlers = [one.__enter__() for one in open_ones]
    for handler in handlers:
        log(handler)
    until_in_thread(lambda: len(caplog.messages) > 0)
    # What is on disk when the time is over is told of alike; the rest would be told of as lost.
    until_in_thread(lambda: all(one.statistics().spooled == EVENTS for one in handlers))
    for one in open_ones:
        one.close()
    assert end_engine(60)
    told = [text for text in caplog.messages if "could not deliver" in text]
    assert len(told) == 2
    assert "19 more trackers" in told[1]
    assert sum("cannot upload" in text for text in caplog.messages) <= 2
    wall.mend()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_children_that_track_nothing_leave_nothing(tmp_path: Path) -> None:
    """However many a process forks, the spool holds what they have tracked, and no more."""
    with tracker(tmp_path / "out", run_name="parent") as handler:
        log(handler, 1)
        children = []
        hearing, saying = os.pipe()
        for number in range(20):
            child = os.fork()
            if not child:
                if number == 7:
                    log(handler, 3)
                    until_in_thread(lambda: handler.statistics().spooled == 3)
                    os.write(saying, b"x")
                signal.pause()
            children.append(child)
        os.close(saying)
        assert os.read(hearing, 1) == b"x", "the child has tracked all three"
        os.close(hearing)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert len(writers(default_spool_dir())) == 2
    with tracker(tmp_path / "out", run_name="next"):
        until_in_thread(lambda: len(writers(default_spool_dir())) == 1)
    assert len(events_in_folder(tmp_path / "out")) == 4


def test_the_engine_of_a_child_is_its_own(tmp_path: Path) -> None:
    """There is one for each process, made when it is first asked for."""
    assert current() is current()
    before = current()
    assert end_engine()
    assert current() is not before


def test_a_flush_that_is_asked_for_at_the_end_ends(tmp_path: Path) -> None:
    """The engine lives on for others: whoever flushes a tracker that has closed does not wait."""
    with tracker(tmp_path / "out", run_name="other"):
        with tracker(tmp_path / "out", run_name="r") as handler:
            log(handler)
        assert handler.flush_tracker().result(60) is True
        for _ in range(20):
            made = tracker(tmp_path / "out")
            late = made.__enter__()
            log(late, 1)
            closing = threading.Thread(target=made.close)
            closing.start()
            flushes = [late.flush_tracker() for _ in range(20)]
            closing.join()
            assert [flush.result(60) for flush in flushes] == [True] * len(flushes)


def test_there_is_one_whoever_asks_first() -> None:
    """Threads that ask for it at the same moment get the same one."""
    for _ in range(50):
        end_engine()
        start = threading.Barrier(4)
        found: list[Any] = []

        def ask(start: threading.Barrier = start, found: list[Any] = found) -> None:
            start.wait()
            found.append(current())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(set(map(id, found))) == 1


def test_what_is_in_memory_goes_to_disk_where_the_engine_is_held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler of logging that hangs holds the engine's thread: closing saves what it can."""
    goes_on, holds = threading.Event(), threading.Event()

    class Hangs(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:  # without its lock: others log on
            if threading.current_thread().name == "asynctrack":
                holds.set()
                goes_on.wait(120)
            return True

    wall = Wall(tmp_path)
    handler = Hangs()
    logging.getLogger("asynctrack").addHandler(handler)
    try:
        with tracker(wall.folder, run_name="first", max_delay=0.01, close_timeout=0.1) as first:
            log(first, 1)
            assert holds.wait(60)
            with tracker(tmp_path / "out", run_name="second", close_timeout=0.1) as second:
                log(second, 5)
                # So large that the worker is to finish it.
                second.on_chain_end("words " * 50_000, run_id=uuid.uuid4())
            assert second.statistics().spooled == 6
    finally:
        logging.getLogger("asynctrack").removeHandler(handler)
        goes_on.set()
    assert end_engine(60)
    assert "are lost" not in caplog.text


EXIT = """
    import signal, sys, uuid
    from asynctrack import tracker
    folder, how = sys.argv[1:]
    made = [
        tracker(folder, run_name=f"r{n}", close_timeout=30, close_patience=3, close_on_sigterm=True)
        for n in range(30)
    ]
    for one in made:
        one.__enter__().on_chain_end("x", run_id=uuid.uuid4())
    made[7].close()  # in any order
    if how == "signal":
        signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("how", ["exit", "signal"])
def test_all_close_at_the_same_time(how: str, tmp_path: Path) -> None:
    """Thirty trackers that reach nothing end a process as soon as one does."""
    wall = Wall(tmp_path)
    began = time.monotonic()
    child = start_child(EXIT, str(wall.folder), how)
    finish(child, timeout=120)
    assert child.returncode == (-signal.SIGTERM if how == "signal" else 0)
    assert time.monotonic() - began < 45, "thirty times three seconds are 90"
    wall.mend()
    with tracker(tmp_path / "own"):
        until_in_thread(lambda: len(events_in_folder(wall.folder)) == 30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_midst_of_closing(tmp_path: Path) -> None:
    """The child leaves what its parent closes to it, and has none of its locks."""
    wall = Wall(tmp_path)
    made = tracker(wall.folder, close_timeout=120, close_patience=0.5)
    log(made.__enter__(), 3)
    closing = threading.Thread(target=made.close)
    closing.start()
    child = os.fork()
    if not child:
        at_exit._close_all()
        with tracker(tmp_path / "child", run_name="child") as handler:
            log(handler, 2)
        os._exit(handler.statistics().delivered)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    wall.mend()
    closing.join()
