"""Forks and the imports of other threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from asynctrack._common.importing import before_fork, imports_of_ours

IMPORTS = {
    "a statement": "import awaited",
    "a call": "from importlib import import_module\nimport_module('awaited')",
}
OURS, USERS = "asynctrack-of-a-test", "Thread-of-a-test"
HOW_LONG = 120.0
"""Seconds a test waits for what comes at once, on a machine that stands still for a while."""


@contextmanager
def importing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, thread: str, code: str, by: str
) -> Iterator[None]:
    """Have a thread import a module, in the code of another one, as long as the block lasts."""
    (folder / "awaited.py").write_text("import sys\nsys.modules['__main__'].awaited()\n")
    monkeypatch.syspath_prepend(folder)
    begun, goes_on = threading.Event(), threading.Event()

    def awaited() -> None:
        begun.set()
        goes_on.wait(HOW_LONG)

    monkeypatch.setattr(sys.modules["__main__"], "awaited", awaited, raising=False)
    does = threading.Thread(target=exec, args=(code, {"__name__": by}), name=thread)
    does.start()
    try:
        assert begun.wait(HOW_LONG)
        yield
    finally:
        goes_on.set()
        does.join()
        sys.modules.pop("awaited", None)


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize(
    ("thread", "by"),
    [(OURS, "botocore.session"), (OURS, "asynctrack._x"), (USERS, "asynctrack._x")],
)
def test_imports_that_forks_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: str, by: str, code: str
) -> None:
    """They are a library's in a thread of ours, and those of our code in any thread."""
    with importing(tmp_path, monkeypatch, thread=thread, code=code, by=by):
        assert imports_of_ours()
    assert not imports_of_ours()


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize("by", ["app", "asynctrackers"])
def test_imports_that_forks_do_not_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, code: str
) -> None:
    """They are the user's own: a module may be a server, whose import never ends."""
    with importing(tmp_path, monkeypatch, thread=USERS, code=code, by=by):
        before_fork(HOW_LONG)
        assert not imports_of_ours()


def test_what_a_module_of_the_user_imports_of_ours_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever imports a module that imports is who imports."""
    (tmp_path / "app.py").write_text(f"exec({IMPORTS['a call']!r}, {{'__name__': 'asynctrack'}})")
    try:
        with importing(tmp_path, monkeypatch, thread=USERS, code="import app", by="__main__"):
            assert not imports_of_ours()
    finally:
        sys.modules.pop("app", None)


def test_a_fork_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that hangs holds a fork up for a limited time."""
    with importing(tmp_path, monkeypatch, thread=OURS, code="import awaited", by="x"):
        before_fork(patience=0.01)
        assert imports_of_ours()


def test_a_fork_does_not_wait_for_its_own_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that forks while it is imported would wait for itself."""
    (tmp_path / "forks.py").write_text(
        "from asynctrack._common.importing import imports_of_ours\nfound = imports_of_ours()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(import_module("forks").found), name=OURS)
    thread.start()
    thread.join()
    sys.modules.pop("forks")
    assert found == [False]


FORKS = """
    import os, sys, threading
    from asynctrack._common import importing
    from asynctrack import tracker
    importing.before_fork.__defaults__ = (120.0,)  # its patience, on a machine that stands still
    sys.path.insert(0, sys.argv[1])
    begun, held = threading.Event(), threading.Event()

    def forks(frame):
        while frame is not None and frame.f_code is not importing.before_fork.__code__:
            frame = frame.f_back
        return frame is not None

    def slow():
        begun.set()
        main = threading.main_thread().ident
        while not forks(sys._current_frames()[main]):
            held.wait(0.001)

    with tracker("runs"):
        thread = threading.Thread(
            target=exec, args=("import lazy", {"__name__": "library"}), name="asynctrack-x"
        )
        thread.start()
        begun.wait()
        pid = os.fork()
        if pid == 0:
            import lazy
            os._exit(0 if lazy.whole else 1)
        thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_waits(tmp_path: Path) -> None:
    """The child has the whole module that a thread of the parent's imported when it forked."""
    (tmp_path / "lazy.py").write_text("import __main__\n__main__.slow()\nwhole = True\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKS), str(tmp_path)],
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
