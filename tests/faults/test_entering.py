"""Row 50: entering and leaving a tracker where the environment gives no thread, file or loop."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import finish, start_child
from tests.support.auditor import audit_folder

# What a program does that has no room: real refusals of the system, which can be taken back.
SCARCE = """
    import asyncio, errno, json, os, resource, sys, threading, time, uuid
    from asynctrack import tracker

    folder, what, use = sys.argv[1:4]
    OPTIONS = json.loads(sys.argv[4])
    EVENTS, ROOM = OPTIONS.pop("events", 10), OPTIONS.pop("room", 0)
    if "prepared" in sys.argv:
        from asynctrack._engine.prepare import prepare
        prepare()
        import asynctrack._tracker

    class Threads:
        def refuse(self):
            threading.stack_size(1 << 47)  # more than there are addresses
            try:
                threading.Thread(target=int).start()
            except RuntimeError:
                return
            raise AssertionError("a thread was to be had")
        def give(self):
            threading.stack_size(0)

    class Descriptors:
        def refuse(self):
            self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = os.dup(0)
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + ROOM, self.limits[1]))
            if ROOM:
                return
            try:
                os.dup(0)
            except OSError as error:
                assert error.errno == errno.EMFILE
                return
            raise AssertionError("a descriptor was to be had")
        def give(self):
            resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)

    scarce = {"threads": Threads, "descriptors": Descriptors}[what]()

    def work(handler, numbers):
        for number in numbers:
            call = handler.on_chain_end(number, run_id=uuid.uuid4())
            if call is not None:
                try:
                    call.send(None)
                except StopIteration:
                    pass

    def body(handler):
        work(handler, range(EVENTS))
        if "returns" in sys.argv:
            scarce.give()
            while handler.statistics().delivered < 10:  # by itself, with the next events
                work(handler, [None])
                time.sleep(0.05)

    async def entered():
        async with tracker(folder, run_name="r", **OPTIONS) as handler:
            body(handler)
            began.append(time.monotonic())
        return handler

    began = []
    scarce.refuse()
    if use == "async":
        scarce.give()
        loop = asyncio.new_event_loop()
        scarce.refuse()
        handler = loop.run_until_complete(entered())
        loop.close()
    else:
        with tracker(folder, run_name="r", **OPTIONS) as handler:
            body(handler)
            began.append(time.monotonic())
    left = time.monotonic() - began[0]
    scarce.give()
    statistics = handler.statistics()
    assert statistics.balanced, statistics
    print(json.dumps({"left": left, **{name: getattr(statistics, name) for name in
        ("accepted", "delivered", "spooled", "pending")}, "dropped": dict(statistics.dropped)}))
"""

uses = pytest.mark.parametrize("use", ["sync", "async"])
NOISE = ("Traceback", "never awaited", "was destroyed", "Exception ignored", "unclosed")


def run(tmp_path: Path, what: str, use: str, *more: str, **options: Any) -> dict[str, Any]:
    """Run the program; what it counted, with what it said."""
    out = tmp_path / "out"
    child = start_child(
        SCARCE, str(out), what, use, json.dumps(options), *more, flags=("-X", "dev", "-W", "error")
    )
    printed, errors = finish(child)
    assert child.returncode == 0, errors
    assert not [noise for noise in NOISE if noise in errors], errors
    return {**json.loads(printed), "said": errors}


def deliver(tmp_path: Path, events: int) -> None:
    """Let the next tracker deliver what is on disk."""
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: handler.statistics().replayed == events)
    audit = audit_folder(tmp_path / "out")
    assert audit.events == events


@uses
def test_no_thread_to_be_had(use: str, tmp_path: Path) -> None:
    """Events go to disk from the first one on; it is said once; the next tracker delivers them."""
    found = run(tmp_path, "threads", use)
    assert (found["accepted"], found["spooled"], found["dropped"]) == (10, 10, {})
    assert found["left"] < 60, "there is nothing to wait for"
    (told,) = [line for line in found["said"].splitlines() if line.startswith("asynctrack")]
    assert told.startswith("asynctrack has no worker (can't start new thread)")
    assert "ulimit -u" in told and str(tmp_path / "state") in told
    deliver(tmp_path, 10)


@uses
def test_threads_that_are_to_be_had_again(use: str, tmp_path: Path) -> None:
    """The worker is had as soon as there are threads, by the next event; it delivers everything."""
    found = run(tmp_path, "threads", use, "returns")
    assert (found["delivered"], found["spooled"], found["dropped"]) == (found["accepted"], 0, {})
    assert found["said"].count("has no worker") == 1
    assert audit_folder(tmp_path / "out").events == found["accepted"]


@uses
@pytest.mark.parametrize("overflow", ["block", "drop_newest"])
def test_no_thread_and_no_disk(use: str, overflow: str, tmp_path: Path) -> None:
    """In memory, as far as there is room; nobody waits for it; all of it is counted and told."""
    options = {"events": 30, "durability": "memory", "overflow": overflow, "max_buffer_events": 10}
    found = run(tmp_path, "threads", use, **options)
    assert found["accepted"] == found["pending"] <= 10
    assert found["accepted"] + found["dropped"]["buffer_full"] == 30
    assert found["left"] < 60  # the close_timeout is two minutes
    assert "they are lost" in found["said"]


@uses
@pytest.mark.parametrize("prepared", ["prepared", "unprepared"])
def test_no_descriptor_left(use: str, prepared: str, tmp_path: Path) -> None:
    """No loop and no file is to be had: in memory, told once, with what to do; no traceback."""
    found = run(tmp_path, "descriptors", use, prepared)
    assert found["left"] < 60  # the close_timeout is two minutes
    assert found["accepted"] == found["pending"] + found["spooled"] + found["delivered"]
    assert found["accepted"] + sum(found["dropped"].values()) == 10
    assert found["accepted"] == (10 if prepared == "prepared" else 0), "it cannot even be read"
    assert "ulimit -n" in found["said"], found["said"]


@uses
@pytest.mark.parametrize("room", range(1, 8))
def test_few_descriptors_left(use: str, room: int, tmp_path: Path) -> None:
    """However far they reach, all is accounted for, and the worker lives or is done without."""
    found = run(tmp_path, "descriptors", use, "prepared", room=room, close_timeout=1.0)
    assert found["accepted"] == 10 and found["dropped"] == {}
    assert "Please report" not in found["said"], found["said"]
    told = [line for line in found["said"].splitlines() if line.startswith("asynctrack")]
    assert len(told) == len({line[:40] for line in told}), "each once"
    if found["pending"]:
        assert "Too many open files" in found["said"]


@uses
def test_descriptors_that_are_to_be_had_again(use: str, tmp_path: Path) -> None:
    """With descriptors again, everything is delivered, also what waited in memory."""
    found = run(tmp_path, "descriptors", use, "prepared", "returns")
    assert (found["delivered"], found["pending"], found["dropped"]) == (found["accepted"], 0, {})
    assert audit_folder(tmp_path / "out").events == found["accepted"]


ANOTHER_USER = """
    import json, os, resource, sys, uuid
    from asynctrack import tracker
    from asynctrack.testing import end_engine
    folder = sys.argv[1]
    with tracker(folder, run_name="first", durability="memory"):
        pass  # what is imported is: another user may not read it
    assert end_engine()
    if os.getuid() == 0:
        os.setgid(54321)
        os.setuid(54321)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    with tracker(folder, run_name="r") as handler:
        for number in range(10):
            handler.on_chain_end(number, run_id=uuid.uuid4())
    statistics = handler.statistics()
    assert statistics.balanced
    print(statistics.accepted, statistics.spooled)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as processes")
def test_a_limit_of_processes_that_is_reached() -> None:
    """`ulimit -u` refuses the worker's thread: events go to disk."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)  # unlike pytest's, for a user without rights as well
        spool = Path(name) / "spool"
        child = start_child(ANOTHER_USER, f"{name}/out", ASYNCTRACK_SPOOL_DIR=str(spool))
        printed, errors = finish(child)
        assert (child.returncode, printed) == (0, "10 10\n"), errors
        assert "can't start new thread" in errors and str(spool) in errors


INSIDE_ANOTHER_LOOP = """
    import asyncio, sys, threading, uuid
    from asynctrack import tracker

    begun = threading.Thread.start

    def start(self):  # as gevent's and eventlet's: a thread that shares the one of its starter
        if self.name != "asynctrack":
            return begun(self)
        self._started.set()
        self.run()

    threading.Thread.start = start

    async def main():
        if sys.argv[2] == "async":
            async with tracker(sys.argv[1], run_name="r") as handler:
                for number in range(10):
                    await handler.on_chain_end(number, run_id=uuid.uuid4())
        else:
            with tracker(sys.argv[1], run_name="r") as handler:
                for number in range(10):
                    handler.on_chain_end(number, run_id=uuid.uuid4())
        return handler.statistics()

    statistics = asyncio.run(main())
    assert statistics.balanced
    print(statistics.accepted, statistics.spooled)
"""


@uses
def test_a_thread_with_the_loop_of_a_stranger(use: str, tmp_path: Path) -> None:
    """Where threads are none, the worker's loop would run inside of another: events go to disk."""
    child = start_child(
        INSIDE_ANOTHER_LOOP, str(tmp_path / "out"), use, flags=("-X", "dev", "-W", "error")
    )
    printed, errors = finish(child)
    assert (child.returncode, printed) == (0, "10 10\n"), errors
    assert "another event loop runs" in errors
    assert not [noise for noise in NOISE if noise in errors], errors
    deliver(tmp_path, 10)


BROKEN = """
    import sys, uuid
    from asynctrack import tracker
    from asynctrack._engine import stages

    async def fail(*args):
        raise RuntimeError("a fault of ours")

    with tracker(sys.argv[1], run_name="r", durability=sys.argv[2], max_delay=0.05) as handler:
        stages.Stages._deliver = fail
        handler.on_chain_end(0, run_id=uuid.uuid4())
        assert handler.flush(60) is False
        for number in range(1, 10):
            handler.on_chain_end(number, run_id=uuid.uuid4())
        assert handler.flush(60) is False
    statistics = handler.statistics()
    assert statistics.balanced
    print(statistics.accepted, statistics.spooled, statistics.pending, dict(statistics.dropped))
"""


@pytest.mark.parametrize(
    ("durability", "counted"),
    [("process", "10 10 0 {}"), ("memory", "1 0 1 {'worker_failed': 9}")],
)
def test_a_worker_that_dies(durability: str, counted: str, tmp_path: Path) -> None:
    """A fault of ours ends the worker: it is told, and events go on to disk where there is one."""
    child = start_child(BROKEN, str(tmp_path / "out"), durability)
    printed, errors = finish(child)
    assert (child.returncode, printed) == (0, f"{counted}\n"), errors
    assert errors.count("asynctrack's worker has ended") == 1
    assert "has no worker" not in errors, "it is told once"
    if durability == "process":
        deliver(tmp_path, 10)
