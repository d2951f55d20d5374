"""Keeps asynctrack's own work from making events: no log record about it becomes one.

A program may log into its tracker, with a handler of the root logger that calls a callback. Then
each delivery makes botocore, aiohttp and asyncio write records, which are delivered, and so on.
So our work is marked, in our threads and when we log in the caller's. The mark is a context
variable: tasks and ``run_coroutine_threadsafe`` take it along.

A finalizer of the program may run in any thread at any moment, also in a marked one: what it tracks
is the program's own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread, current_thread, get_ident
from types import FrameType
from typing import Final

_own: Final[ContextVar[int]] = ContextVar("asynctrack_own", default=0)

is_own: Final = _own.get
"""Returns the thread of ours that the caller's context comes from, nearly always 0. It takes a
hundredth of a microsecond, so ask it at each event; if it is not 0, ask ``comes_of_own``."""


@contextmanager
def own_work() -> Iterator[None]:
    """Mark the work in the block as our own."""
    token = _own.set(get_ident())
    try:
        yield
    finally:
        _own.reset(token)


def comes_of_own() -> bool:
    """Return whether what the caller tracks is a log record about our own work."""
    thread = _own.get()
    if not thread:
        return False
    ours = thread == get_ident() or is_ours(current_thread())
    return not ours or handles_a_record()


def is_ours(thread: Thread) -> bool:
    """Return whether a thread is one of asynctrack's own."""
    return thread.name.startswith(_OUR_THREADS)


def handles_a_record() -> bool:
    """Return whether a log handler is at work in this thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _HANDLE:
        frame = frame.f_back
    return frame is not None


_OUR_THREADS: Final = "asynctrack"
"""How their names begin."""
_HANDLE: Final = logging.Handler.handle.__code__
