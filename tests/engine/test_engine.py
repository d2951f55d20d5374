"""The engine: one for the process, for as long as there are trackers, and fair between them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack._backends import local
from asynctrack._engine import engine as engine_module
from asynctrack._engine.engine import current
from asynctrack._engine.stages import Stages
from asynctrack._spool.layout import default_spool_dir, writers
from asynctrack.testing import end_engine
from tests.e2e.waiting import Wall, until_in_thread
from tests.support.auditor import audit_folder, events_in_folder

EVENTS = 16


def ours() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "asynctrack"]


def log(handler: Any, count: int = EVENTS) -> None:
    for number in range(count):
        handler.on_chain_end({"n": number}, run_id=uuid.uuid4())


async def track(folder: Path, run: str, count: int = EVENTS) -> int:
    async with tracker(folder, run_name=run) as handler:
        for number in range(count):
            await handler.on_chain_end({"n": number}, run_id=uuid.uuid4())
    return handler.statistics().delivered


@pytest.mark.may_block("the test looks into the spool")
async def test_many_trackers_share_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two hundred at once: one thread with a loop, two for the disk, nothing lost, no warning."""
    entered = [tracker(tmp_path / "out", run_name=f"r{number}") for number in range(200)]
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
    assert len([one for one in threading.enumerate() if one.name.startswith("asynctrack")]) <= 4
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
        assert not thread.is_alive()
        assert handler.statistics().delivered == EVENTS


def test_the_next_tracker_finds_it(tmp_path: Path) -> None:
    """One after another, trackers use the same thread."""
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
        for number in range(20):
            child = os.fork()
            if not child:
                if number == 7:
                    log(handler, 3)
                signal.pause()
            children.append(child)
        until_in_thread(lambda: len(writers(default_spool_dir())) == 2)
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
