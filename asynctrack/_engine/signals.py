"""SIGTERM, for those who ask for it: deliver first, then end as the process would have ended.

One handler for all trackers of the process: however many there are, they close at the same time.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Protocol


class Closable(Protocol):
    """What is closed on SIGTERM."""

    def begin_close(self) -> None:
        """Begin to deliver everything."""

    def close(self) -> None:
        """Wait until that is done, for a bounded time."""


class _Termination:
    """Closes trackers on SIGTERM, then does whatever was installed before."""

    def __init__(self) -> None:
        self._open: dict[Closable, None] = {}
        self._earlier: Any = None
        self._installed = False

    def add(self, tracker: Closable) -> None:
        """Close this one, too; does nothing outside the main thread, where Python allows it not."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._open[tracker] = None
        if not self._installed:
            self._earlier = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True

    def discard(self, tracker: Closable) -> None:
        """Leave this one alone; give SIGTERM back with the last, unless others have it by now."""
        self._open.pop(tracker, None)
        if (
            self._installed
            and not self._open
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._on_signal
        ):
            signal.signal(signal.SIGTERM, self._earlier or signal.SIG_DFL)
            self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        trackers = [*self._open]
        for tracker in trackers:
            tracker.begin_close()
        for tracker in trackers:
            tracker.close()
            self._open.pop(tracker, None)
        earlier = self._earlier
        if self._installed and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, earlier or signal.SIG_DFL)
            self._installed = False
        if callable(earlier):
            earlier(number, frame)
        elif earlier != signal.SIG_IGN:
            # The default action, so that whoever waits for the process sees that it was terminated.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


termination = _Termination()
"""The one of this process."""
