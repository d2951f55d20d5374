"""Rate-limited warnings: say what is wrong once, clearly, then count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("asynctrack")

INTERVAL: Final = 60.0
"""Seconds between two warnings of the same kind."""


class Notices:
    """Warnings of one tracker, at most one of a kind in ``INTERVAL``.

    Args:
        monotonic: The clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.RLock()  # re-entrant: a finalizer may warn while it is held
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log a warning, unless one of this kind was logged a moment ago; count it then.

        Args:
            kind: What counts as the same warning.
            text: What happened, where the data is now, and what to do. No secrets.
        """
        now = self._monotonic()
        with self._lock:
            last = self._last.get(kind)
            if last is not None and now - last < INTERVAL:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
                return
            self._last[kind] = now
            held_back = self._held_back.pop(kind, 0)
        more = f" (and {held_back} more times since the last warning)" if held_back else ""
        logger.warning("%s%s", text, more)
