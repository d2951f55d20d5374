"""SIGTERM, for those who ask for it: deliver first, then end as the process would have ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class TerminationHandler:
    """Runs a function on SIGTERM, then whatever was installed before.

    Args:
        close: Delivers everything; blocks for a bounded time.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._earlier: Any = None
        self._installed = False

    def install(self) -> None:
        """Take SIGTERM over; does nothing outside the main thread, where Python allows it not."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True

    def uninstall(self) -> None:
        """Give SIGTERM back, unless somebody else has taken it over since."""
        if (
            self._installed
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._on_signal
        ):
            signal.signal(signal.SIGTERM, self._earlier or signal.SIG_DFL)
        self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        earlier = self._earlier
        self.uninstall()
        self._close()
        if callable(earlier):
            earlier(number, frame)
        elif earlier != signal.SIG_IGN:
            # The default action, so that whoever waits for the process sees that it was terminated.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
