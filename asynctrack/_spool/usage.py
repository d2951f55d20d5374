"""How much the spool holds: counted as it changes here, and looked at now and then for the rest.

Other processes use the same folders, so that only a look at all files tells what is there. With
thousands of writers that takes a tenth of a second: it is done once in ``INTERVAL`` for all
trackers of a process, and what these make and delete meanwhile is added up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynctrack._spool.layout import writers

INTERVAL: Final = 10.0
"""Seconds between two looks at a spool."""
AGAIN: Final = 0.5
"""The same where it seems to be full."""
MAX_SPOOLS: Final = 256
"""Spools that are remembered."""
GLANCE: Final = 0.01
"""Seconds that a look takes at the most where a tracker waits for it to be entered."""


@dataclass(slots=True)
class _Spool:
    size: int = 0
    looked: float = float("-inf")


class Usage:
    """How much each spool holds; used from several threads.

    Args:
        monotonic: The clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.RLock()  # re-entrant: a finalizer may close a tracker
        self._spools: dict[Path, _Spool] = {}

    def add(self, spool_dir: Path, size: int) -> None:
        """Note what was made, in bytes; less than nothing for what was deleted."""
        with self._lock:
            if len(self._spools) > MAX_SPOOLS:
                self._spools.clear()  # they are looked at again
            spool = self._spools.setdefault(spool_dir, _Spool())
            spool.size = max(0, spool.size + size)

    def fits(self, spools: Iterable[Path], size: int, bound: int, *, glance: bool = False) -> bool:
        """Tell whether so much more is within the bound of these spools together. Blocks.

        Args:
            spools: Their folders.
            size: Bytes that are to be added.
            bound: Bytes of all of them at the most.
            glance: Whether a part of it will do rather than a long look.
        """
        spools = tuple(spools)
        return any(
            sum(self._used(one, age, glance) for one in spools) + size <= bound
            for age in (INTERVAL, AGAIN)
        )

    def _used(self, spool_dir: Path, age: float, glance: bool) -> int:
        now = self._monotonic()
        with self._lock:
            spool = self._spools.setdefault(spool_dir, _Spool())
            if now - spool.looked < age:
                return spool.size
            spool.looked = now  # others need not look as well
            before = spool.size
        size, whole = _look(spool_dir, GLANCE if glance else None)
        with self._lock:
            if whole:
                # What was made during the look may be counted twice, until the next one.
                spool.size = size + max(0, spool.size - before)
            else:
                # Not again for a moment; a tracker's second segment takes a whole look.
                spool.size, spool.looked = max(spool.size, size), now + AGAIN - INTERVAL
            return spool.size


def _look(spool_dir: Path, limit: float | None) -> tuple[int, bool]:
    """Return the size of what is there, in bytes, and whether that is all."""
    end = None if limit is None else time.monotonic() + limit
    size = 0
    for path in writers(spool_dir):
        size += folder_size(path)
        if end is not None and time.monotonic() > end:
            return size, False
    return size, True


def folder_size(path: Path) -> int:
    """Return the size of everything in a writer's folder, in bytes."""
    size = 0
    try:
        with os.scandir(path) as found:
            for file in found:
                try:
                    size += file.stat(follow_symlinks=False).st_size
                except OSError:
                    continue  # delivered and deleted meanwhile
    except OSError:
        pass
    return size
