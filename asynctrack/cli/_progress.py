"""Shows on standard error how far long work has come, if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ._screen import printable

Advance = Callable[[int], None]
"""Called with how much more is done."""

EVERY: Final = 0.1
"""Seconds between two updates of what is shown."""


@contextmanager
def progress(doing: str, total: int | None = None, unit: str = "events") -> Iterator[Advance]:
    """Show progress while the block runs; nothing unless standard error is a terminal.

    Args:
        doing: What is done, in words.
        total: How much there is; None where that is not known.
        unit: What is counted.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    doing = printable(doing, lines=False)  # a Run may have any name
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        with _plain(doing, total, unit) as advance:
            yield advance
        return
    amount = "{task.completed:,.0f}" + ("" if total is None else " of {task.total:,.0f}")
    columns = (
        TextColumn("asynctrack: {task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{amount} {unit}", markup=False),
        TimeElapsedColumn(),
    )
    # Transient: what is printed afterwards stands alone.
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        with _now_and_then(lambda count: bar.advance(task, count)) as advance:
            yield advance


@contextmanager
def _plain(doing: str, total: int | None, unit: str) -> Iterator[Advance]:
    done = 0

    def show(count: int) -> None:
        nonlocal done
        done += count
        of = "" if total is None else f" of {total:,}"
        print(f"\rasynctrack: {doing}: {done:,}{of} {unit}", end="", file=sys.stderr, flush=True)

    with _now_and_then(show) as advance:
        yield advance
    print(file=sys.stderr)


@contextmanager
def _now_and_then(show: Advance) -> Iterator[Advance]:
    """Pass on what is done, a few times a second: showing it costs more than doing it."""
    waiting = 0
    next_time = 0.0

    def advance(count: int) -> None:
        nonlocal waiting, next_time
        waiting += count
        now = time.monotonic()
        if now >= next_time:
            show(waiting)
            waiting, next_time = 0, now + EVERY

    yield advance
    show(waiting)
