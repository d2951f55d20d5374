"""Keeps forks out of asynctrack's imports.

If a thread imports a module at the moment of a fork, the module stays locked in the child for ever,
because that thread is not there. The child's own worker would wait for it until its time is over,
and so would whatever else imports it there. So a fork waits: a second or two when a process opens
its first tracker.

What opening a process's first tracker imports, in whoever's thread, is announced, and does not
begin during a fork. What else our threads import, boto3 for one and what libraries do when they are
first used, is seen by their stacks. It may begin between that look and the fork, where other hooks
take their time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep  # the real one, also where a tool puts another in its place
from types import FrameType
from typing import Final

from asynctrack._common.own import is_ours

PATIENCE: Final = 30.0
"""Most seconds that a fork waits. A small container has a tenth of a processor."""
LOOK: Final = 0.001
"""Seconds between two looks at whether an import is under way."""

_MACHINERY: Final = "<frozen importlib._bootstrap>"
"""Where the code comes from that has a module locked while it imports it."""


class ImportGate:
    """Knows of imports under way; a fork waits until there are none."""

    def __init__(self) -> None:
        self._begin_anew()

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Hold up forks in other threads as long as the block lasts: it waits for nothing else."""
        thread = threading.get_ident()
        with self._lock:
            self._importing.append(thread)
        try:
            yield
        finally:
            with self._lock:
                if thread in self._importing:  # else a fork has begun anew
                    self._importing.remove(thread)

    def before_fork(self, patience: float = PATIENCE) -> None:
        """Wait for the imports under way, and let none begin that is announced.

        Args:
            patience: The most seconds that it takes.
        """
        until = time.monotonic() + patience
        while True:
            self._lock.acquire()
            if not self._others_import() or time.monotonic() >= until:
                return
            self._lock.release()
            sleep(LOOK)

    def after_fork_in_parent(self) -> None:
        """Let imports begin again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads that were importing are not here."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal's handler may fork
        self._importing: list[int] = []

    def _others_import(self) -> bool:
        here = threading.get_ident()
        if any(thread != here for thread in self._importing):
            return True
        frames = sys._current_frames()
        del frames[here]  # else this one and its callers would have to wait for the collector
        return any(
            imports(frames.get(thread.ident or 0))
            for thread in threading.enumerate()
            if is_ours(thread)
        )


def imports(frame: FrameType | None) -> bool:
    """Return whether the thread of which this is the last frame is importing."""
    while frame is not None:
        if frame.f_code.co_filename == _MACHINERY:
            return True
        frame = frame.f_back
    return False


gate: Final = ImportGate()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=gate.before_fork,
        after_in_parent=gate.after_fork_in_parent,
        after_in_child=gate.after_fork_in_child,
    )
