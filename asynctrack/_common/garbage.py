"""Full garbage collections wait while a thread of ours imports.

A full collection walks every object of the process and lets no other thread run meanwhile. Python
starts one when the objects that came since the last are a quarter of those before. AWS's libraries
and clients are a hundred thousand objects, so one comes in the midst of the first tracker's start:
150 ms in a program that has SageMaker's SDK loaded, in which the user's event loop stands still.
It finds nothing, as modules stay.

So as long as such work lasts, only young objects are collected: as often as ever, a tenth of a
millisecond each time. What survives goes to the old ones at the end, without a walk and without
counting towards the next full collection, which comes when the program's own objects ask for it;
garbage of the program's that goes along waits until then. That happens only where modules were
imported, so a few times in the life of a process. A program that has frozen its objects has short
full collections already and keeps them; one that has switched collections off, or sets other
thresholds meanwhile, has its way.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NEVER: Final = 1_000_000
"""Young collections before one of the middle generation is due."""


class FullCollections:
    """Counts the threads that hold them up."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a finalizer may run in the midst of it
        self._holding = 0
        self._modules = 0
        self._usual = self._ours = gc.get_threshold()
        self._frozen = False

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Let none begin by itself as long as the block lasts."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    def after_fork_in_child(self) -> None:
        """Begin anew: none of the threads that held them up is here."""
        self._lock = threading.RLock()
        if self._holding:
            self._holding = 0
            self._put_back()

    def _begin(self) -> None:
        with self._lock:
            self._holding += 1
            if self._holding > 1:
                return
            self._modules = len(sys.modules)
            self._usual = self._ours = gc.get_threshold()
            if gc.isenabled() and not self._frozen:
                gc.set_threshold(self._usual[0], NEVER, self._usual[2])
                self._ours = gc.get_threshold()

    def _end(self) -> None:
        with self._lock:
            self._holding = max(0, self._holding - 1)  # 0: a fork began anew meanwhile
            if not self._holding:
                self._put_back()

    def _put_back(self) -> None:
        if self._ours == self._usual or gc.get_threshold() != self._ours:
            return  # nothing was changed, or the program has changed it since
        if len(sys.modules) > self._modules:
            # What the program has frozen stays frozen, as thawing thaws everything. Counting walks
            # it, 20 ms for 400,000 objects: once and here, where nothing else has the interpreter.
            self._frozen = gc.get_freeze_count() > 0
            if not self._frozen:
                gc.freeze()
                gc.unfreeze()  # into the oldest generation, whichever each object was in
        gc.set_threshold(*self._usual)


full_collections: Final = FullCollections()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=full_collections.after_fork_in_child)
