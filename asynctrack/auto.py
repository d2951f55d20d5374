"""Track a program that knows nothing of asynctrack: its chains, graphs, models and tools.

Say where to in ``ASYNCTRACK_RUN``, a folder or ``s3://bucket/prefix``, and start the program with
this module, or let it import it, in one line and before anything else that counts::

    ASYNCTRACK_RUN=runs python -m asynctrack.auto program.py its arguments
    ASYNCTRACK_RUN=s3://bucket/prefix python -m asynctrack.auto -m module its arguments

    import asynctrack.auto

The tracker is opened by the first chain that is called, is the whole process's, and is closed when
the process ends. Its options come from ``ASYNCTRACK_<NAME>``. Nothing here stops the program: where
it cannot be tracked, one warning says why and what to do.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynctrack._backends.mlflow.address import is_mlflow_address
from asynctrack._capture import installed
from asynctrack._common.imported import when_imported
from asynctrack._common.notices import warn

if TYPE_CHECKING:
    from asynctrack._tracker import Tracker

VARIABLE = "ASYNCTRACK_RUN"
_USAGE = f"""\
usage: {VARIABLE}=folder-or-s3-address python -m asynctrack.auto program.py [argument ...]
       {VARIABLE}=folder-or-s3-address python -m asynctrack.auto -m module [argument ...]

Runs a Python program, and tracks what it does with LangChain. {VARIABLE} says where to: a folder,
or s3://bucket/prefix. Every option of tracker(...) is ASYNCTRACK_<NAME> in the environment.
"""


class _Late(installed.Installed):
    """The process's handler, whose tracker is opened when LangChain asks for it first.

    Args:
        address: Where to track to.
        options: Options that are no matter of the environment.
    """

    __slots__ = ("_address", "_lock", "_options", "_tracker")

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options
        self._lock = threading.RLock()
        self._tracker: Tracker | None = None
        super().__init__(None, process=True)  # last: any thread may ask for it from here on
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @property
    def handler(self) -> Any:
        """The handler; None where the program cannot be tracked."""
        if self._tracker is None and not self._left:
            with self._lock:
                if self._tracker is None and not self._left:
                    self._open()
        return self._handler

    def _open(self) -> None:
        try:
            from asynctrack._engine.prepare import prepare
            from asynctrack._tracker import make_tracker

            tracker = make_tracker(self._address, self._options)
            prepare(installing=True)  # done already, unless LangChain came before us
            from asynctrack._capture.inline import InlineHandler

            self._handler = tracker.adopt(InlineHandler(tracker.open_unattended()))
            self._tracker = tracker
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Leave the program alone, and say why."""
        self.undo()
        warn(
            "asynctrack does not track this program: %s: %s. It goes on without. Set %s to the path"
            " of a folder or to s3://bucket/prefix, or leave asynctrack.auto out.",
            type(error).__name__,
            error,
            VARIABLE,
        )

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread that is not here may have held it


def begin() -> None:
    """Track this process, as the environment says. Once; imports nothing that takes time."""
    address = os.environ.get(VARIABLE)
    if address is None:
        warn(
            "asynctrack.auto tracks nothing: %s is not set. Set it to the path of a folder or to"
            " s3://bucket/prefix; set it to nothing (%s=) to have it so and not be told.",
            VARIABLE,
            VARIABLE,
        )
        return
    if not address:
        return
    # A run of MLflow has a name.
    late = _Late(address, {} if is_mlflow_address(address) else _one_run())

    def prepare() -> None:
        from asynctrack._engine.prepare import prepare

        prepare()

    # While the program reads its modules and nobody waits, not when its event loop runs.
    _offered(late, "langchain_core.callbacks.manager", prepare)
    _offered(late, "langchain_core.tracers.context", installed.offer)


def main(arguments: Sequence[str]) -> None:
    """Run a program or a module, as Python itself does.

    Args:
        arguments: Its name, ``-m`` before a module's, and its arguments.
    """
    if not arguments or arguments[0] in ("-h", "--help") or list(arguments) == ["-m"]:
        shown = sys.stdout if arguments[:1] in (["-h"], ["--help"]) else sys.stderr
        shown.write(_USAGE)
        sys.exit(0 if shown is sys.stdout else 2)
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    program = Path(arguments[0])
    if not program.exists():
        sys.stderr.write(f"asynctrack.auto: there is no program {arguments[0]}\n\n{_USAGE}")
        sys.exit(2)
    sys.argv[:] = arguments
    sys.path[0] = str(program.resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")


def _offered(late: _Late, module: str, then: Any) -> None:
    def told() -> None:
        try:
            then()
        except Exception as error:  # the program's own import must not fail for us
            late.give_up(error)

    when_imported(module, told)


def _one_run() -> dict[str, Any]:
    """Return a name for the Run where nobody has named it: children that are forked share it."""
    if os.environ.get("ASYNCTRACK_RUN_NAME"):
        return {}
    from datetime import datetime, timezone

    now = datetime.now(tz=timezone.utc)
    return {"run_name": f"run-{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"}


if __name__ == "__main__":
    from asynctrack import auto  # begins, and is what the program gets if it imports it

    auto.main(sys.argv[1:])
else:
    begin()
