"""What asynctrack does itself leads to no events: whatever is logged or traced of it.

A program may log into its tracker: a handler of the root logger that calls a callback. Delivering
makes botocore, aiohttp and asyncio write records, which would be delivered, which makes records.
So what runs on our behalf is marked, in our threads and where we log on the caller's, and the
callbacks leave out what comes from there. The mark is a context variable: it goes along into tasks
and with ``run_coroutine_threadsafe``, and is read in a hundredth of a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_own: Final[ContextVar[bool]] = ContextVar("asynctrack_own", default=False)

is_own: Final = _own.get
"""Tells whether the caller works for asynctrack."""


@contextmanager
def own_work() -> Iterator[None]:
    """Mark what is done in the block as our own."""
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)
