"""Waiting for conditions, and a backend that is out of order until a test mends it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 120.0
"""Seconds after which a condition is taken to never come true, on however busy a machine."""


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.005)


def until_in_thread(condition: Callable[[], object]) -> None:
    """Wait in this thread until the condition holds."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        pause.wait(0.005)


class Wall:
    """A folder that cannot be written to, as a file stands in its way, until `mend` takes it away.

    Real and at once, unlike a server that is down: for everything that is not about S3 itself.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall"
        self._file.write_text("in the way")
        self.folder = self._file / "tracked"

    def mend(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # Gone when this returns: a replay that still met it would not try again for a while.
            self._file.unlink()
        else:
            # Not waited for: in an event loop nothing may block.
            threading.Thread(target=self._file.unlink).start()
