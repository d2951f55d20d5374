"""A progress bar on a terminal, for a final flush that takes more than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from asynctrack._statistics import Statistics

DELAY: Final = 1.0
"""Seconds a flush takes before it is shown."""
INTERVAL: Final = 0.1
"""Seconds between two looks at it."""
UNSEEN: Final = 3600.0
"""Seconds to wait where nobody sees it."""


@contextmanager
def progress(statistics: Callable[[], Statistics]) -> Iterator[Callable[[], float]]:
    """Show how many of the events that were accepted are delivered, or refused for good.

    What is on disk is safe, but it is not what is waited for.

    Args:
        statistics: Reads all counters.

    Yields:
        To be called again and again: shows the state and returns how long to wait, in seconds.
    """
    begun = time.monotonic()
    bar: Any = None

    def show() -> float:
        nonlocal bar
        left = begun + DELAY - time.monotonic()
        if left > 0:
            return left
        if bar is None:
            bar = _bar(statistics())
        if bar is False:
            return UNSEEN
        now = statistics()
        settled = now.delivered + now.dead_lettered
        bar.update(bar.task_ids[0], completed=settled, total=now.accepted)
        return INTERVAL

    try:
        yield show
    finally:
        if bar:
            bar.stop()


def _bar(now: Statistics) -> Any:
    """Return a bar on the terminal of stderr; False where there is none or rich is missing."""
    if not sys.stderr.isatty():
        return False
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        return False
    bar = Progress(
        TextColumn("asynctrack: delivering events"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task("", total=now.accepted)
    bar.start()
    return bar
