"""What asynctrack does itself leads to no events: nothing that is logged of it becomes one.

A program may log into its tracker: a handler of the root logger that calls a callback. Delivering
makes botocore, aiohttp and asyncio write records, which would be delivered, which makes records.
So what runs on our behalf is marked, in our threads and where we log on the caller's. The mark is
a context variable: it goes along into tasks, and with ``run_coroutine_threadsafe``.

A finalizer of the program's may run in any thread at any moment, also where the mark is: what it
tracks is the program's own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import current_thread, get_ident
from types import FrameType
from typing import Final

_own: Final[ContextVar[int]] = ContextVar("asynctrack_own", default=0)

is_own: Final = _own.get
"""Returns the thread of ours that the caller's context comes from, nearly always 0: a hundredth of
a microsecond, for whoever has to ask at each event; then ask ``comes_of_own``."""


@contextmanager
def own_work() -> Iterator[None]:
    """Mark what is done in the block as our own."""
    token = _own.set(get_ident())
    try:
        yield
    finally:
        _own.reset(token)


def comes_of_own() -> bool:
    """Tell whether what the caller would track comes of our own work: of what is logged of it."""
    thread = _own.get()
    if not thread:
        return False
    ours = thread == get_ident() or current_thread().name.startswith(_OUR_THREADS)
    return not ours or handles_a_record()


def handles_a_record() -> bool:
    """Tell whether a handler of logging is at work in this thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _HANDLE:
        frame = frame.f_back
    return frame is not None


_OUR_THREADS: Final = "asynctrack"
"""How their names begin."""
_HANDLE: Final = logging.Handler.handle.__code__
