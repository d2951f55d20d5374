"""What happens to the process: SIGTERM on request, forks, freezes, finalizers that log.

Rows 19, 20, 26, 27, 28 and 35 of the matrix; kills are in ``tests/crash``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import EVENTS, Ground, end, finish, line_of, outputs, start_child, tell
from tests.faults.light import work
from tests.support.auditor import audit_folder, events_in_folder
from tests.support.faults import Hang
from tests.support.scale import at_scale

# -- SIGTERM on request (row 19) ------------------------------------------------------------------

TERMINATED = """
    import signal, sys, time, uuid
    from asynctrack import tracker
    how, folder, close_timeout = sys.argv[1:]
    def earlier(number, frame):
        print("earlier", flush=True)
        if how == "earlier exits":
            sys.exit(7)
    if how.startswith("earlier"):
        signal.signal(signal.SIGTERM, earlier)
    elif how == "ignored":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with tracker(folder, close_on_sigterm=True, close_timeout=float(close_timeout)) as handler:
        for number in range(10):
            handler.on_chain_end(number, run_id=uuid.uuid4())
        while handler.statistics().pending:  # on disk, before there is little time for it
            time.sleep(0.01)
        print("ready", flush=True)
        sys.stdin.readline()
    print("went on", handler.statistics().delivered, flush=True)
"""


@pytest.mark.parametrize(
    ("how", "status", "written"),
    [
        ("default", -signal.SIGTERM, ""),
        ("earlier", 0, "earlier\nwent on 10\n"),
        ("earlier exits", 7, "earlier\n"),
        ("ignored", 0, "went on 10\n"),
    ],
)
def test_sigterm_delivers_first(how: str, status: int, written: str, tmp_path: Path) -> None:
    """Everything is delivered, the handler that was there runs, the exit code is what it was."""
    child = start_child(TERMINATED, how, str(tmp_path), "120")
    assert line_of(child) == "ready"
    child.send_signal(signal.SIGTERM)
    if status == 0:
        until_in_thread(lambda: len(_stored(tmp_path)) == 10)
        tell(child)
    out, errors = finish(child)
    assert (child.returncode, out) == (status, written), errors
    assert outputs(events_in_folder(tmp_path)) == list(range(10))
    assert audit_folder(tmp_path).events == 10


def test_sigterm_with_a_sink_that_hangs(tmp_path: Path) -> None:
    """The process ends by close_timeout as terminated, and says where the events are."""
    wall = Wall(tmp_path)
    child = start_child(TERMINATED, "default", str(wall.folder), "2.0")
    assert line_of(child) == "ready"
    child.send_signal(signal.SIGTERM)
    _, errors = finish(child)  # it would go on for as long as the wall is there
    assert child.returncode == -signal.SIGTERM
    assert "could not deliver 10 of 10 events" in errors
    wall.mend()
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: handler.statistics().replayed == 10)
    assert outputs(events_in_folder(wall.folder)) == list(range(10))


def test_sigterm_is_given_back(tmp_path: Path) -> None:
    """After the block the signal is whose it was; without the option it is never taken."""
    before = signal.getsignal(signal.SIGTERM)
    with tracker(tmp_path):
        assert signal.getsignal(signal.SIGTERM) == before
    with tracker(tmp_path, close_on_sigterm=True):
        assert signal.getsignal(signal.SIGTERM) != before
        theirs = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert callable(theirs)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "somebody took it since: it stays"
    signal.signal(signal.SIGTERM, before)
    with tracker(tmp_path, close_on_sigterm=True):
        pass
    assert signal.getsignal(signal.SIGTERM) == before


# -- forks (rows 26 and 27) -----------------------------------------------------------------------

FORKS = """
    import os, sys, threading, uuid, warnings
    from asynctrack import tracker
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
    folder, forks, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    stop = threading.Event()
    with tracker(folder, max_batch_events=50) as handler:
        def hammer(name):
            number = 0
            while not stop.is_set():
                handler.on_chain_end(["parent", name, number], run_id=uuid.uuid4())
                number += 1
                stop.wait(0.0005)
        threads = [threading.Thread(target=hammer, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        pids = []
        for fork in range(forks):
            pid = os.fork()
            if pid == 0:
                handler.on_chain_end(["child", fork, 0], run_id=uuid.uuid4())
                if end == "exit":
                    assert handler.flush(120)
                os._exit(0)
            pids.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        stop.set()
        for thread in threads:
            thread.join()
    statistics = handler.statistics()
    assert statistics.delivered == statistics.accepted, statistics
    print(statistics.accepted, set(statuses), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("how", ["exit", "os._exit"])
def test_forked_with_every_lock_in_use(how: str, tmp_path: Path) -> None:
    """Forks while three threads log: no deadlock, a new writer each, nothing of the parent twice.

    A child that ends by os._exit at once, as a worker under gunicorn does, leaves its event in the
    spool for the next tracker.
    """
    forks = at_scale(20 if how == "os._exit" else 10, 1_000)
    child = start_child(FORKS, str(tmp_path), str(forks), how)
    out, errors = finish(child, timeout=200 + 2 * forks)
    assert child.returncode == 0, errors
    accepted = int(out.split()[0])
    assert out.split(maxsplit=1)[1].strip() == "{0}", "each child ended well"
    with tracker(tmp_path / "next"):
        # A child that lived a moment longer may have replayed some of its dead siblings already.
        until_in_thread(lambda: len(audit_folder(tmp_path).writers) == 1 + forks)
    stored = outputs(events_in_folder(tmp_path))
    assert sorted(one[1] for one in stored if one[0] == "child") == list(range(forks))
    assert len([one for one in stored if one[0] == "parent"]) == accepted
    audit = audit_folder(tmp_path)
    assert len(audit.writers) == 1 + forks
    assert [text for text in audit.problems if "the span " not in text] == []


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed <asynctrack:ResourceWarning")
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    """fork goes on with the parent's handler as a new writer; the others open their own."""
    context: Any = multiprocessing.get_context(method)
    inherited = method == "fork"
    with tracker(tmp_path, run_name="r") as handler:
        end(handler, -1)
        workers = [
            context.Process(
                target=work, args=(handler if inherited else None, str(tmp_path), number)
            )
            for number in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with tracker(tmp_path, run_name="r"):
        # It replays what a worker could not deliver before multiprocessing ended it.
        until_in_thread(lambda: audit_folder(tmp_path).events == 4)
    assert sorted(outputs(events_in_folder(tmp_path))) == [-1, 0, 1, 2]
    assert len(audit_folder(tmp_path).writers) == 4
    assert handler.statistics().accepted == 1


# -- frozen (row 28) ------------------------------------------------------------------------------

FROZEN = """
    import sys, uuid
    from asynctrack import tracker
    from tests.faults.light import Place
    with tracker(Place.from_json(sys.argv[1]).run(), max_delay=0.1) as handler:
        for number, line in enumerate(sys.stdin):
            handler.on_chain_end(number, run_id=uuid.uuid4())
            if line == "flush\\n":
                print(handler.flush(120), flush=True)
"""


@pytest.mark.parametrize("again", range(at_scale(1, 20)))
def test_frozen_and_thawed(ground: Ground, again: int) -> None:
    """Stopped while uploads are under way, its connections gone: it goes on, over new ones."""
    child = start_child(FROZEN, ground.place.to_json())
    tell(child, "flush")
    assert line_of(child) == "True"
    hang = ground.proxy.add(Hang(), path=EVENTS)
    tell(child, "log")
    ground.proxy.wait_for(lambda seen: any(one.outcome == "hanging" for one in seen))
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    used = ground.proxy.connections
    ground.proxy.refuse()  # resets every connection, as a server does with one idle for minutes
    ground.proxy.remove(hang)
    ground.proxy.heal()
    child.send_signal(signal.SIGCONT)
    tell(child, "flush")
    assert line_of(child) == "True"
    assert ground.proxy.connections > used, "fresh sockets"
    assert child.stdin is not None
    finish(child)
    assert outputs(ground.events()) == [0, 1, 2]


# -- finalizers (row 35) --------------------------------------------------------------------------

FINALIZERS = """
    import gc, sys, time, uuid
    from asynctrack import tracker
    count, rounds = 0, int(sys.argv[2])
    with tracker(sys.argv[1], max_batch_events=100) as handler:
        class Noisy:
            def __init__(self):
                self.me = self  # only the collector frees it
            def __del__(self):
                global count
                count += 1
                handler.on_chain_end("finalizer", run_id=uuid.uuid4())
        gc.set_threshold(1)
        for number in range(rounds):
            Noisy()
            handler.on_chain_end({"number": number, "list": [[], {}]}, run_id=uuid.uuid4())
            if number % 100 == 0:
                handler.statistics()
        gc.set_threshold(700)
        # A collection is skipped while another thread is in the middle of one.
        deadline = time.monotonic() + 120
        while count < rounds and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.001)
    statistics = handler.statistics()
    assert count == rounds, count
    assert statistics.delivered == statistics.accepted == 2 * rounds, statistics
    print("good", flush=True)
"""


def test_finalizers_that_log_at_any_moment(tmp_path: Path) -> None:
    """The collector runs at each allocation and its finalizers log: no deadlock, none lost."""
    rounds = at_scale(5_000, 500_000)
    child = start_child(FINALIZERS, str(tmp_path), str(rounds), flags=("-X", "dev"))
    out, errors = finish(child, timeout=160 + rounds / 50)
    assert (out, child.returncode) == ("good\n", 0), errors
    stored = events_in_folder(tmp_path)
    assert [event["seq"] for event in stored] == list(range(1, 2 * rounds + 1))
    numbers = [one["number"] for one in outputs(stored) if one != "finalizer"]
    assert numbers == list(range(rounds)), "in the order of the calls"


def _stored(folder: Path) -> list[Any]:
    return events_in_folder(folder) if folder.exists() else []


assert sys.platform != "win32", "signals and forks are those of POSIX here"
