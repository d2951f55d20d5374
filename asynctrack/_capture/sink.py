"""What the handlers need of the engine: a sink that takes events, and a flush to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

from asynctrack._capture.capture import Capture
from asynctrack._capture.event import Body
from asynctrack._statistics import Statistics


class Flush(Protocol):
    """A flush under way; await it in any event loop, or wait for it in any thread."""

    def __await__(self) -> Generator[Any, None, bool]: ...

    def as_future(self) -> asyncio.Future[bool]:
        """Return it as a future of the running event loop."""

    def done(self) -> bool:
        """Return whether it has ended."""

    def result(self, timeout: float | None = None) -> bool:
        """Wait in this thread.

        Args:
            timeout: The longest to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether everything is delivered; False when the time is over first.
        """


class Sink(Protocol):
    """Where a handler's events go; called from any thread and any event loop."""

    @property
    def run_name(self) -> str:
        """What is tracked into: experiment and Run."""

    @property
    def capture(self) -> Capture:
        """Makes the events."""

    @property
    def put_nowait(self) -> Callable[[Body, bool], bool]:
        """Accepts an event if there is room for it now, and returns whether there is."""

    @property
    def statistics(self) -> Callable[[], Statistics]:
        """Returns a frozen snapshot of all counters."""

    async def put(self, body: Body, sheddable: bool, cause: object = None) -> None:
        """Await room for an event, or drop and count it, as the options say."""

    def put_blocking(
        self, body: Body, sheddable: bool, cause: object = None, *, may_wait: bool = True
    ) -> None:
        """Wait in this thread for room for an event, if it may, or drop and count it."""

    def put_without_waiting(self, body: Body, sheddable: bool) -> None:
        """Accept an event if there is room for it now, or drop and count it."""

    def leaves_out(self) -> bool:
        """Return whether an event of asynctrack's own work has to be dropped, and count it."""

    def capture_failed(self, name: str, error: Exception) -> None:
        """Count an event that could not be made."""

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Store hyperparameters as an event and for the Run."""

    def log_metric(self, name: str, value: float, step: int | None) -> None:
        """Store a metric as an event and for the Run."""

    def log_feedback(self, record: dict[str, Any]) -> None:
        """Store feedback as an event; see ``feedback_record``."""

    def request_flush(self) -> Flush:
        """Start to deliver everything accepted so far."""
