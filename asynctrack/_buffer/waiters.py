"""Callbacks that wait for room in the buffer: in an event loop, or blocking their thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future as ThreadFuture
from typing import Protocol

from asynctrack._buffer.packed import Packed


class Waiter(Protocol):
    """A callback that waits for room."""

    body: bytes | Packed

    def finish(self, accepted: bool) -> None:
        """Tell it how it ended; called once, from any thread, without the buffer's lock."""


class AsyncWaiter:
    """Waits in an event loop, any event loop."""

    def __init__(self, body: bytes | Packed) -> None:
        self.body = body
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[bool] = self._loop.create_future()

    def finish(self, accepted: bool) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set, accepted)
        except RuntimeError:
            pass  # its loop was closed meanwhile: nobody waits any more

    def _set(self, accepted: bool) -> None:
        if not self.outcome.done():
            self.outcome.set_result(accepted)


class ThreadWaiter:
    """Blocks its thread."""

    def __init__(self, body: bytes | Packed) -> None:
        self.body = body
        self.outcome: ThreadFuture[bool] = ThreadFuture()

    def finish(self, accepted: bool) -> None:
        self.outcome.set_result(accepted)
