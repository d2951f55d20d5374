"""Trackers that are open when the process ends or is forked.

At the interpreter's end they are closed in time, while threads can still run. In the child of a
fork they become other writers.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Protocol

from asynctrack._importing import gate


class _Closable(Protocol):
    def close_at_exit(self) -> None: ...

    def after_fork(self) -> None: ...


# Strong references: the handler does not hold its tracker, and what a block that was never left
# has accepted must be delivered although nobody else knows the tracker any more.
_open: set[_Closable] = set()
_registered = False


def remember(tracker: _Closable) -> None:
    """Close this tracker at the interpreter's end, unless it is forgotten before."""
    global _registered
    if not _registered:
        _registered = True
        # Functions of ``atexit`` run after concurrent.futures has shut its threads down, which
        # the worker needs to resolve names; the hook of ``threading`` runs before. It is private
        # but what concurrent.futures itself uses, in every version from 3.9 on.
        register = getattr(threading, "_register_atexit", atexit.register)
        register(_close_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=gate.before_fork,
                after_in_parent=gate.after_fork_in_parent,
                after_in_child=_after_fork,
            )
    _open.add(tracker)


def forget(tracker: _Closable) -> None:
    """Leave a tracker alone at the interpreter's end."""
    _open.discard(tracker)


def _close_all() -> None:
    failed: Exception | None = None
    for tracker in list(_open):
        try:
            tracker.close_at_exit()
        except Exception as error:  # a ResourceWarning made an error: the others come first
            failed = error
    if failed is not None:
        raise failed


def _after_fork() -> None:
    gate.after_fork_in_child()
    for tracker in list(_open):
        tracker.after_fork()
