"""Forks and the imports of other threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from asynctrack._common.importing import ImportGate

FORKS = """
    import os, sys, threading, time
    from asynctrack import tracker
    from asynctrack._common.importing import ImportGate, gate
    ImportGate.before_fork.__defaults__ = (120.0,)  # its patience, on a machine that stands still
    with tracker(sys.argv[1]):
        order = []
        begun = threading.Event()
        def slow():
            with gate.importing():
                begun.set()
                while not gate._idle._waiters:  # until the fork waits
                    time.sleep(0.001)
                order.append("imported")
        thread = threading.Thread(target=slow)
        thread.start()
        begun.wait()
        pid = os.fork()
        if pid == 0:
            with gate.importing():
                os._exit(0 if order == ["imported"] else 1)
        thread.join()
        with gate.importing():
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_waits_for_imports(tmp_path: object) -> None:
    """It takes place when the import is done; parent and child go on to import."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKS), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_a_fork_does_not_wait_for_ever() -> None:
    """An import that hangs holds a fork up for a limited time, and the child begins anew."""
    gate = ImportGate()
    with gate.importing():
        gate.before_fork(patience=0.01)
        gate.after_fork_in_parent()
    with gate.importing():
        gate.before_fork(patience=0.01)
        gate.after_fork_in_child()
        gate.before_fork()
        gate.after_fork_in_parent()


def test_no_import_begins_during_a_fork() -> None:
    """Between the two hooks of a fork an import waits."""
    gate = ImportGate()
    gate.before_fork()
    order: list[str] = []

    def load() -> None:
        with gate.importing():
            order.append("import")

    thread = threading.Thread(target=load)
    thread.start()
    order.append("fork")
    gate.after_fork_in_parent()
    thread.join()
    assert order == ["fork", "import"]
