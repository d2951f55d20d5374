"""Trackers that are open when the process ends or is forked.

At the interpreter's end they are closed in time, once nobody is left who might track into them. In
the child of a fork they become other writers.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Final, Protocol

from asynctrack._common.notices import hush_closed_streams, warn

ENGINE_WAIT: Final = 2.0
"""Seconds for the engine's connections to be closed."""


class _Closable(Protocol):
    def begin_close(self) -> None: ...

    def close_at_exit(self) -> None: ...

    def after_fork(self) -> bool: ...


# Strong references: the handler does not hold its tracker, and what a block that was never left
# has accepted must be delivered although nobody else knows the tracker any more.
_open: set[_Closable] = set()
_registered = False


def remember(tracker: _Closable) -> None:
    """Close this tracker at the interpreter's end, unless it is forgotten before."""
    global _registered
    _open.add(tracker)
    if not _registered:
        _registered = True
        # For what is entered when the interpreter ends already, in a thread or a function of
        # atexit itself; and for a Python without the hooks of ``threading``.
        atexit.register(_close_all)
        _close_after_the_threads()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)


def forget(tracker: _Closable) -> None:
    """Leave a tracker alone at the interpreter's end."""
    _open.discard(tracker)


def _close_after_the_threads() -> None:
    """Have ``threading`` close what is open as the last thing at the end of the main thread.

    Later may be too late: a child of multiprocessing runs no function of ``atexit``. ``threading``
    calls its hooks last in, first out, so ours is put first: pools are asked to end by hooks of
    their own, and what they have begun may track. These hooks are private, but what
    concurrent.futures itself uses, in every version from 3.9 on.
    """
    hooks = getattr(threading, "_threading_atexits", None)
    if not isinstance(hooks, list):
        return
    try:
        threading._register_atexit(_close_when_alone)  # type: ignore[attr-defined]  # see above
    except RuntimeError:
        return  # they run already
    hooks.insert(0, hooks.pop())


def _close_when_alone() -> None:
    """Wait for the threads that Python runs to their end anyway, then close."""
    try:
        hush_closed_streams()
        while _open and (others := [one for one in threading.enumerate() if _goes_on(one)]):
            others[0].join()
    finally:
        _close_all()


def _goes_on(thread: threading.Thread) -> bool:
    return not (thread.daemon or thread in (threading.current_thread(), threading.main_thread()))


def _close_all() -> None:
    from asynctrack._engine.engine import current  # not before a tracker has been entered

    hush_closed_streams()
    for tracker in list(_open):
        tracker.begin_close()  # all at the same time
    for tracker in list(_open):
        try:
            tracker.close_at_exit()
        except ResourceWarning as error:
            warn("%s", error)  # made an error by -W: nothing is left here that it could stop
    thread = current().end_soon()
    if thread is not None:
        thread.join(ENGINE_WAIT)
    current().board.tell_rest()


def _after_fork() -> None:
    for tracker in list(_open):
        if not tracker.after_fork():
            _open.discard(tracker)  # it closes, and its parent is at it
