"""gunicorn ``--preload`` with four workers, for real: each request's event arrives. Row 27.

And what a platform does that freezes a process between two requests, and may never thaw it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from asynctrack import tracker, verify
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import outputs
from tests.support.auditor import audit_folder, events_in_folder
from tests.support.processes import state_of
from tests.support.scale import at_scale

pytest.importorskip("gunicorn", reason="gunicorn runs on POSIX only")

ROOT = Path(__file__).parents[2]
REQUESTS = at_scale(120, 4_000)


class Server:
    """A running gunicorn.

    Args:
        process: Its parent process.
        port: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._port = port

    def ask(self, name: str) -> tuple[int, int]:
        """Make a request; returns the worker's process id, and how many threads of ours it has."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{name}", timeout=60) as answer:
            pid, threads = answer.read().split()
        return int(pid), int(threads)

    def ask_all(self, names: list[str]) -> Counter[int]:
        """Make requests, several at a time; returns how many each worker served."""
        with ThreadPoolExecutor(8) as pool:
            return Counter(pid for pid, _ in pool.map(self.ask, names))


@contextmanager
def gunicorn(folder: Path, log: Path, *options: str) -> Iterator[Server]:
    """Run one with the application of ``wsgi.py``."""
    # Handed over open: a port that was free a moment ago may be somebody else's by then.
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening, log.open("wb") as said:
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore::DeprecationWarning", "-m", "gunicorn"),
                *("--preload", "--workers", "4", "--bind", f"fd://{listening.fileno()}"),
                # Its own patience with a worker that says nothing: one of them is stopped here.
                *("--timeout", "300"),
                *("--worker-tmp-dir", str(log.parent), "--graceful-timeout", "2"),
                *(*options, "tests.faults.wsgi:application"),
            ],
            cwd=ROOT,
            env={**os.environ, "TRACKED_INTO": str(folder)},
            stdout=said,
            stderr=said,
            pass_fds=[listening.fileno()],
        )
    server = Server(process, port)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            server.ask("ready")
        except OSError:
            return False
        return True

    try:
        until_in_thread(answers)
        yield server
    finally:
        process.kill()
        process.wait()


def stop(server: Server, how: signal.Signals = signal.SIGTERM) -> None:
    """End it as an operator does, and wait."""
    server.process.send_signal(how)
    server.process.wait(240)


def settle(folder: Path) -> None:
    """Let the next tracker take over what dead workers left, and check that all of it is there."""
    with tracker(folder / "next", run_name="next"):
        spool = Path(os.environ["XDG_STATE_HOME"]) / "asynctrack" / "spool" / "v1"
        until_in_thread(lambda: len(list(spool.iterdir())) == 1)
    assert [text for text in audit_folder(folder).problems if "the span " not in text] == []
    report = verify(folder / "asynctrack" / "v1" / "experiment=default" / "run=r")
    assert report.ok, str(report)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGQUIT], ids=["graceful", "quick"])
def test_preloaded_workers(how: signal.Signals, tmp_path: Path) -> None:
    """Each worker is a writer of its own, nothing of the parent is sent twice, nothing is lost."""
    names = [f"request-{number}" for number in range(REQUESTS)]
    with gunicorn(tmp_path, tmp_path / "log") as server:
        served = server.ask_all(names[::2])
        (busiest, _), *_ = served.most_common()
        os.kill(busiest, signal.SIGSTOP)  # on an idle machine one of them may serve them all
        served += server.ask_all(names[1::2])
        os.kill(busiest, signal.SIGCONT)
        assert all(threads == 1 for _, threads in [server.ask("one-worker")])
        stop(server, how)
    settle(tmp_path)
    assert len(served) >= 2, "several workers were at it"
    stored = Counter(map(str, outputs(events_in_folder(tmp_path))))
    assert {name: stored[name] for name in names} == dict.fromkeys(names, 1)
    assert stored["loaded"] == 1, "the parent's own"
    writers = audit_folder(tmp_path).writers
    assert len(served) + 1 <= len(writers) <= 5 + 1


def test_workers_that_end_after_a_few_requests(tmp_path: Path) -> None:
    """--max-requests replaces workers all the time: what each accepted is delivered."""
    names = [f"request-{number}" for number in range(at_scale(24, 1_000))]
    with gunicorn(tmp_path, tmp_path / "log", "--max-requests", "3") as server:
        served = server.ask_all(names)
        stop(server)
    settle(tmp_path)
    stored = Counter(map(str, outputs(events_in_folder(tmp_path))))
    assert {name: stored[name] for name in names} == dict.fromkeys(names, 1)
    assert len(served) >= len(names) / 10, "many workers came and went"


def test_workers_that_are_killed(tmp_path: Path) -> None:
    """SIGKILL right after the answer, as gunicorn does on its timeout: in the spool, then there."""
    names = [f"request-{number}" for number in range(12)]
    with gunicorn(tmp_path, tmp_path / "log") as server:
        for name in names:
            pid, _ = server.ask(name)
            os.kill(pid, signal.SIGKILL)
            # Not a moment later in the middle of taking the next request.
            until_in_thread(lambda pid=pid: state_of(pid) in ("", "Z", "X"))
        stop(server)
    settle(tmp_path)
    stored = Counter(map(str, outputs(events_in_folder(tmp_path))))
    assert {name: stored[name] for name in names} == dict.fromkeys(names, 1)


def test_frozen_between_requests_and_never_thawed(tmp_path: Path) -> None:
    """As functions in a cloud are: stopped after each answer, thawed for the next, then killed."""
    names = [f"request-{number}" for number in range(6)]
    with gunicorn(tmp_path, tmp_path / "log", "--workers", "1") as server:
        worker, _ = server.ask("first")
        for name in names:
            os.kill(worker, signal.SIGCONT)
            assert server.ask(name)[0] == worker
            os.kill(worker, signal.SIGSTOP)  # at once: its batch may be half uploaded
            until_in_thread(lambda: state_of(worker) == "T")
        os.kill(worker, signal.SIGKILL)
        stop(server)
    settle(tmp_path)
    stored = Counter(map(str, outputs(events_in_folder(tmp_path))))
    assert {name: stored[name] for name in names} == dict.fromkeys(names, 1)
