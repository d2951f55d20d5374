"""Rows 20, 50 and 54: how programs end, and what they hear of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynctrack import tracker
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import finish, line_of, outputs, start_child, tell
from tests.support.auditor import events_in_folder

GOES_ON = """
    import sys, threading, uuid
    from concurrent.futures import ThreadPoolExecutor
    from asynctrack import tracker

    folder = sys.argv[1]
    print("entering", flush=True)
    theirs = tracker(folder, run_name="theirs").__enter__()
    go = threading.Event()

    def log(handler, who):
        for number in range(8):
            handler.on_chain_end([who, number], run_id=uuid.uuid4())

    def goes_on():
        log(theirs, "before")
        go.wait()
        log(theirs, "after")

    def in_a_block_of_its_own():
        with tracker(folder, run_name="own") as handler:
            log(handler, "own, before")
            go.wait()
            log(handler, "own, after")

    def starts_another():
        go.wait()
        in_a_block_of_its_own()

    def end():
        sys.stdin.readline()  # when the main thread is at its end
        go.set()

    pool = ThreadPoolExecutor(2)
    pool.submit(goes_on)
    pool.submit(int).result()  # and a thread that waits for work
    for function in (goes_on, in_a_block_of_its_own, starts_another, end):
        threading.Thread(target=function).start()
    hook = threading._shutdown
    def shutdown():
        print("over", flush=True)
        hook()
    threading._shutdown = shutdown
"""


@pytest.mark.parametrize("flags", [(), ("-X", "dev", "-W", "error")])
def test_threads_that_go_on_after_the_main_thread(flags: tuple[str, ...], tmp_path: Path) -> None:
    """What threads and pools track until they end is accepted and delivered, block left or not."""
    child = start_child(GOES_ON, str(tmp_path / "out"), flags=flags)
    assert line_of(child) == "entering"
    assert line_of(child) == "over"
    tell(child)
    _, errors = finish(child)
    assert child.returncode == 0 and "Traceback" not in errors, errors
    # Python 3.12 starts no thread by then: what was entered late is for the next tracker.
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: len(events_in_folder(tmp_path / "out")) == 64)
        assert handler.statistics().replayed in (0, 16)
    found = outputs(events_in_folder(tmp_path / "out"))
    for who, times in (("before", 2), ("after", 2), ("own, before", 2), ("own, after", 2)):
        mine = [number for name, number in found if name == who]
        assert sorted(mine) == sorted([*range(8)] * times), who
