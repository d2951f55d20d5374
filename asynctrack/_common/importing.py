"""Keeps forks out of asynctrack's imports.

If a thread imports a module at the moment of a fork, the module stays locked in the child for ever,
because that thread is not there. The child's own worker would wait for it until its time is over,
and so would whatever else imports it there. So a fork waits for what our threads import, which is
also what libraries import when they are first used, and for what our code imports in the user's
threads: a second or two when a process opens its first tracker. It sees that by their stacks.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import FrameType
from typing import Final

from asynctrack._common.own import is_ours

PATIENCE: Final = 30.0
"""Most seconds that a fork waits."""
LOOK: Final = 0.001
"""Seconds between two looks at whether an import is under way."""

_MACHINERY: Final = "<frozen importlib._bootstrap>"
"""Where the code comes from that holds a module's lock while it imports it."""


def before_fork(patience: float = PATIENCE) -> None:
    """Wait until no import of ours is under way in another thread.

    Args:
        patience: The most seconds that it takes.
    """
    until = time.monotonic() + patience
    while imports_of_ours() and time.monotonic() < until:
        time.sleep(LOOK)


def imports_of_ours() -> bool:
    """Return whether one of our threads imports, or our code in a thread of the user's."""
    here = threading.get_ident()
    ours = {thread.ident for thread in threading.enumerate() if is_ours(thread)}
    for ident, frame in sys._current_frames().items():
        if ident == here:
            continue
        importer = _importer(frame)
        if importer is not None and (ident in ours or _is_our_code(importer)):
            return True
    return False


def _importer(frame: FrameType | None) -> FrameType | None:
    """Return the frame whose import is under way, the outermost of them; None where none is."""
    found = None
    while frame is not None:
        caller = frame.f_back
        if frame.f_code.co_filename == _MACHINERY:
            found = caller
        elif frame is found and _module(frame) == "importlib":
            found = caller  # it has called import_module
        frame = caller
    return found


def _is_our_code(frame: FrameType) -> bool:
    return _module(frame).partition(".")[0] == __name__.partition(".")[0]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork)
