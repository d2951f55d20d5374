"""Wakes a task of the engine: at once, or after a time."""

from __future__ import annotations

import asyncio


class Wakeup:
    """An event that one task waits for; used in one loop.

    ``asyncio.Event`` in a cancel scope does the same, and takes 30 µs for each wait with a limit:
    a tracker that opens and closes has a dozen of them.
    """

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Let the task go on, now or as soon as it waits."""
        self._set = True
        if self._waiter is not None:
            _go_on(self._waiter)

    def clear(self) -> None:
        """Let the next wait last until it is set again."""
        self._set = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set.

        Args:
            seconds: The longest to wait; None waits as long as it takes.

        Returns:
            Whether it is set.
        """
        if not self._set:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = None if seconds is None else loop.call_later(seconds, _go_on, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        return self._set


def _go_on(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
