"""Keeps forks out of the worker's imports.

A module that a thread was importing at the moment of a fork stays locked in the child for ever, as
that thread is not there: the child's own worker would wait for it until its time is over. So a fork
waits for the imports of the workers, a second or two at the beginning of a process's first tracker.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE: Final = 10.0
"""Seconds that a fork waits at the most."""


class ImportGate:
    """Counts imports under way; a fork takes place while there are none."""

    def __init__(self) -> None:
        self._idle = threading.Condition(threading.Lock())
        self._importing = 0

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Hold forks up, in other threads, as long as the block lasts."""
        with self._idle:
            self._importing += 1
        try:
            yield
        finally:
            with self._idle:
                self._importing = max(0, self._importing - 1)  # 0: a fork began anew meanwhile
                self._idle.notify_all()

    def before_fork(self, patience: float = PATIENCE) -> None:
        """Wait for the imports under way, and let none begin."""
        self._idle.acquire()
        self._idle.wait_for(lambda: not self._importing, patience)

    def after_fork_in_parent(self) -> None:
        """Let imports begin again."""
        self._idle.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: none of the threads that were importing is here."""
        self._idle = threading.Condition(threading.Lock())
        self._importing = 0


gate: Final = ImportGate()
"""The one of this process."""
