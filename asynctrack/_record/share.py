"""What the trackers of one process share that write into the same Run: its pace, and its room."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

UPDATE_INTERVAL: Final = 1.0
"""Seconds between two UpdateTrialComponent requests to one Run at the least."""
MAX_RUNS: Final = 256
"""Runs that are remembered, the latest."""


class RunShare:
    """Hands out the moments at which a Run may be written to; used from several threads.

    Args:
        interval: Seconds between two of them.
    """

    def __init__(self, interval: float = UPDATE_INTERVAL) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._next = float("-inf")
        self.writes = 0
        """How often these trackers have written: who has not seen the last one looks again."""
        self.peers: dict[str, Any] = {}
        """What these trackers have in the Run and may remove for each other: see
        ``places``."""

    def reserve(self, now: float) -> float:
        """Take the next moment that is free; return how long to wait for it, in seconds.

        Args:
            now: Monotonic clock, in seconds.
        """
        with self._lock:
            at = max(now, self._next)
            self._next = at + self._interval
        return at - now

    def wrote(self) -> int:
        """Count a write; return how many there were."""
        with self._lock:
            self.writes += 1
            return self.writes


def run_share(target: str) -> RunShare:
    """Return what all in this process share that write to the same place.

    Args:
        target: The place; empty where nothing is to be paced.
    """
    if not target:
        return RunShare(0.0)
    # A forked child has its own: its parent's may be locked at that moment by a thread it lacks.
    share = _shares.setdefault((os.getpid(), target), RunShare())
    while len(_shares) > MAX_RUNS:
        _shares.pop(next(iter(_shares)), None)
    return share


_shares: dict[tuple[int, str], RunShare] = {}
