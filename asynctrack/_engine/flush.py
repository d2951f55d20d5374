"""A flush: everything that was accepted before it was asked for is delivered.

``Flush`` is what the one who asks holds, in any thread or event loop. ``Flushes`` is the worker's
account of them: pieces are settled in any order, and a flush has what it waits for once all up to
its last event are. Then it waits for the Run and the manifest to be written. Decisions only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import TimeoutError as ThreadTimeout
from dataclasses import dataclass, field
from typing import Any


class Flush:
    """A flush under way; may be awaited in any event loop or waited for in any thread."""

    def __init__(self, future: ThreadFuture[bool]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, bool]:
        return self.as_future().__await__()

    def as_future(self) -> asyncio.Future[bool]:
        """Return it as a future of the running event loop."""
        return asyncio.wrap_future(self._future)

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> bool:
        """Wait in this thread.

        Args:
            timeout: The longest to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether everything is delivered; False when the time is over first.
        """
        try:
            return self._future.result(timeout)
        except (TimeoutError, ThreadTimeout):  # two types until 3.10
            return False


@dataclass(slots=True)
class FlushRequest:
    """A flush that the worker was asked for.

    Attributes:
        target: The last event that it waits for.
        future: Resolved with whether it all was delivered.
    """

    target: int
    future: ThreadFuture[bool] = field(default_factory=ThreadFuture)

    def end(self, delivered: bool) -> None:
        """Tell the one who waits; an end that was told before stays."""
        if not self.future.done():
            self.future.set_result(delivered)


class Flushes:
    """The flushes that have not ended, and how far the events are settled."""

    def __init__(self) -> None:
        self._waiting: list[FlushRequest] = []
        self._recording: list[FlushRequest] = []
        self._outstanding: set[int] = set()
        self._cut_through = 0
        self._over: bool | None = None

    def add(self, request: FlushRequest) -> None:
        """Let a flush wait; once all is over, it hears at once how that was."""
        if self._over is None:
            self._waiting.append(request)
        else:
            request.end(self._over)

    def cut(self, first_seq: int, last_seq: int) -> None:
        """Note a piece on its way; pieces are cut in the order of their numbers."""
        self._outstanding.add(first_seq)
        self._cut_through = last_seq

    def settled(self, first_seq: int) -> None:
        """Note that a piece has arrived, or never will."""
        self._outstanding.discard(first_seq)

    @property
    def settled_through(self) -> int:
        """The number up to which all events that were cut have arrived, or never will."""
        return min(self._outstanding, default=self._cut_through + 1) - 1

    @property
    def hurry(self) -> bool:
        """Whether a flush waits for events that are not cut yet."""
        return any(request.target > self._cut_through for request in self._waiting)

    def move_on(self) -> bool:
        """Let flushes wait for the Run whose events are settled; tell whether one does now."""
        settled = self.settled_through
        ready = [one for one in self._waiting if one.target <= settled]
        for request in ready:
            self._waiting.remove(request)
        self._recording += ready
        return bool(ready)

    @property
    def recording(self) -> tuple[FlushRequest, ...]:
        """Those that wait for the Run; they do until ``recorded`` or ``end`` says otherwise."""
        return tuple(self._recording)

    def recorded(self, requests: Collection[FlushRequest], delivered: bool) -> None:
        """End those whose record is written."""
        self._recording = [one for one in self._recording if one not in requests]
        for request in requests:
            request.end(delivered)

    def fail(self) -> None:
        """End all that wait, as nothing is delivered for now."""
        self._end_all(False)

    def end(self, delivered: bool) -> None:
        """End all that wait, and each one that comes later.

        Args:
            delivered: Whether everything that was accepted is.
        """
        self._over = delivered
        self._end_all(delivered)

    def _end_all(self, delivered: bool) -> None:
        for request in (*self._waiting, *self._recording):
            request.end(delivered)
