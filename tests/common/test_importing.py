"""Forks and the imports of other threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from asynctrack._common.importing import ImportGate, imports

MANY = 120.0
"""Seconds for what comes at once, on a machine that stands still for a while."""

FORKS = """
    import gc, os, signal, sys, threading, time, weakref
    from asynctrack._common import importing

    thread_name, code, waits_for = sys.argv[1:]
    begun, forked, waits = threading.Event(), threading.Event(), []
    wait = importing.sleep
    importing.sleep = lambda seconds: (waits.append(seconds), wait(seconds))

    def slow():  # what the module does that is imported
        begun.set()
        until = time.monotonic() + 120
        while not (waits or forked.is_set()) and time.monotonic() < until:
            time.sleep(0.001)

    class Mine: pass

    def forks():
        mine = Mine()
        return os.fork(), weakref.ref(mine)

    gc.disable()
    scope = {"gate": importing.gate}
    thread = threading.Thread(target=exec, args=(code, scope), name=thread_name)
    thread.start()
    begun.wait()
    pid, mine = forks()
    forked.set()
    if pid == 0:
        signal.alarm(60)  # it would hang
        if waits_for == "True":
            import lazy
            os._exit(0 if lazy.whole else 1)
        os._exit(0)
    thread.join()
    with importing.gate.importing():
        print(bool(waits), mine() is None, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def fork(folder: Path, *, thread: str, code: str, waits: bool) -> None:
    """Fork while another thread imports; look at whether that waits, and at the child."""
    (folder / "lazy.py").write_text("import __main__\n__main__.slow()\nwhole = True\n")
    (folder / "other.py").write_text("import lazy\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKS), thread, code, str(waits)],
        capture_output=True,
        cwd=folder,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"{waits} True 0\n", 0), done.stderr


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
_ANNOUNCED = "with gate.importing(): import lazy"


@needs_fork
@pytest.mark.parametrize(
    ("thread", "code"),
    [
        pytest.param("asynctrack-x", "import lazy", id="ours"),
        pytest.param("asynctrack-x", "import other", id="ours, further in"),
        pytest.param("asynctrack-x", "__import__('importlib').import_module('lazy')", id="a call"),
        pytest.param("Thread-x", _ANNOUNCED, id="announced"),
    ],
)
def test_a_fork_waits(tmp_path: Path, thread: str, code: str) -> None:
    """For what our threads import and what is announced: the child has the module whole."""
    fork(tmp_path, thread=thread, code=code, waits=True)


@needs_fork
def test_a_fork_does_not_wait_for_the_users_own_imports(tmp_path: Path) -> None:
    """A module of theirs may be a server, whose import never ends."""
    fork(tmp_path, thread="Thread-x", code="import lazy", waits=False)


def test_what_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread does while a module's code runs for an import, and at no other time."""
    (tmp_path / "looks.py").write_text(
        "import sys\nfrom asynctrack._common.importing import imports\n"
        "found = imports(sys._getframe())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert import_module("looks").found
    finally:
        sys.modules.pop("looks", None)
    assert not imports(sys._getframe())
    assert not imports(None)


def _in_a_thread(does: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=does, name=name)
    thread.start()
    return thread


def _stands_in(thread: threading.Thread, function: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == function


def test_a_fork_does_not_wait_for_ever() -> None:
    """An import that hangs holds a fork up for a limited time, and the child begins anew."""
    gate = ImportGate()
    begun, goes_on = threading.Event(), threading.Event()

    def hangs() -> None:
        with gate.importing():
            begun.set()
            told.append(goes_on.wait(MANY))

    told: list[bool] = []
    thread = _in_a_thread(hangs, "hangs")
    assert begun.wait(MANY)
    gate.before_fork(patience=0.01)
    gate.after_fork_in_parent()
    gate.before_fork(patience=0.01)
    gate.after_fork_in_child()
    assert not gate._importing
    goes_on.set()
    thread.join()
    assert told == [True]
    assert not gate._importing


def test_a_fork_does_not_wait_for_its_own_thread(tmp_path: Path) -> None:
    """A module that forks while it is imported would wait for itself, announced or not."""
    (tmp_path / "lazy.py").write_text("from __main__ import forks\nforks()\n")
    code = """
        import sys, threading
        from asynctrack._common import importing
        def forks():
            importing.gate.before_fork()
            importing.gate.after_fork_in_parent()
        def waits(seconds): raise AssertionError("it waits")
        importing.sleep = waits
        def does():
            with importing.gate.importing():
                import lazy
            print("whole")
        thread = threading.Thread(target=does, name="asynctrack-x")
        thread.start()
        thread.join()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, cwd=tmp_path, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.stdout == "whole\n", done.stderr


def test_no_announced_import_begins_during_a_fork() -> None:
    """Between the two hooks of a fork it waits."""
    gate = ImportGate()
    gate.before_fork(MANY)
    order: list[str] = []

    def load() -> None:
        with gate.importing():
            order.append("import")

    thread = _in_a_thread(load, "loads")
    while not _stands_in(thread, "importing"):  # where it waits
        assert thread.is_alive()
    order.append("fork")
    gate.after_fork_in_parent()
    thread.join()
    assert order == ["fork", "import"]
