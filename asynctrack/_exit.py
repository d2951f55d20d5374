"""Trackers still open when the interpreter ends: closed in time, while threads can still run."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Protocol


class _Closable(Protocol):
    def close_at_exit(self) -> None: ...


_open: weakref.WeakSet[_Closable] = weakref.WeakSet()
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
