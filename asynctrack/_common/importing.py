"""Keeps forks out of the worker's imports.

If a thread imports a module at the moment of a fork, the module stays locked in the child for ever,
because that thread is not there. The child's own worker would wait for it until its time is over.
So a fork waits for the worker's imports: a second or two when a process opens its first tracker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE: Final = 10.0
"""Most seconds that a fork waits."""


class ImportGate:
    """Counts imports under way; a fork waits until there are none."""

    def __init__(self) -> None:
        self._idle = threading.Condition(threading.Lock())
        self._importing = 0

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Hold up forks in other threads as long as the block lasts."""
        with self._idle:
            self._importing += 1
        try:
            yield
        finally:
            with self._idle:
                self._importing = max(0, self._importing - 1)  # 0: a fork has begun anew
                self._idle.notify_all()

    def before_fork(self, patience: float = PATIENCE) -> None:
        """Wait for the imports under way, and let no other begin."""
        self._idle.acquire()
        self._idle.wait_for(lambda: not self._importing, patience)

    def after_fork_in_parent(self) -> None:
        """Let imports begin again."""
        self._idle.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads that were importing are not here."""
        self._idle = threading.Condition(threading.Lock())
        self._importing = 0


gate: Final = ImportGate()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=gate.before_fork,
        after_in_parent=gate.after_fork_in_parent,
        after_in_child=gate.after_fork_in_child,
    )
