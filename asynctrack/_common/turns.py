"""Short turns: the application gets the interpreter sooner while a thread of ours computes.

A thread that wants the interpreter waits until the one that has it blocks, or for the switch
interval, 5 ms by default (``sys.setswitchinterval``). The worker computes for 20 ms at a time when
it makes its clients, and for 2 ms around each upload. Each time the user's event loop wakes up
meanwhile, it would be late by as much. So the interval is shorter as long as one of our threads
computes, and what it was while the worker's loop waits, which is nearly always; a call in another
thread of ours counts until it returns. The largest lag of an event loop fell from 1.9 to 1.1 times
that of no tracker (``benchmarks/results/lag.json``, before and after).
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asynctrack._common.own_loop import OwnLoop, OwnSelector

INTERVAL: Final = 0.0005
"""Seconds of a turn. A switch takes some microseconds; the fifth of this gained nothing more."""


class Turns:
    """Counts the threads of ours that compute, and sets the switch interval accordingly."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._computing = 0
        self._usual = INTERVAL
        self._ours = INTERVAL

    def begin(self) -> None:
        """Take short turns from now on: this thread computes."""
        with self._lock:
            self._computing += 1
            if self._computing == 1:
                self._usual = sys.getswitchinterval()
                if self._usual > INTERVAL:
                    sys.setswitchinterval(INTERVAL)
                self._ours = sys.getswitchinterval()

    def end(self) -> None:
        """Put back what was, unless another thread of ours computes or the user set it anew."""
        with self._lock:
            self._computing = max(0, self._computing - 1)  # 0: a fork began anew meanwhile
            if not self._computing:
                self._put_back()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take short turns as long as the block lasts."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def after_fork_in_child(self) -> None:
        """Begin anew: none of the threads that computed is here."""
        self._lock = threading.RLock()
        if self._computing:
            self._computing = 0
            self._put_back()

    def _put_back(self) -> None:
        if self._usual > INTERVAL and sys.getswitchinterval() == self._ours:
            sys.setswitchinterval(self._usual)


turns: Final = Turns()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=turns.after_fork_in_child)


class _Selector(OwnSelector):
    """Waits for what an event loop waits for; the loop computes whenever this does not."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        turns.end()
        try:
            return super().select(timeout)
        finally:
            turns.begin()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that takes short turns; it runs inside of ``turns.taken()``.

    Raises:
        OSError: No descriptors are left; nothing is left behind.
    """
    if sys.platform == "win32":  # its loop does not wait with a selector
        return asyncio.new_event_loop()
    return OwnLoop(_Selector())
