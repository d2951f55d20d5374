"""What the way of the data knows of traces that are sent on live: whom it hands artifacts to."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass, field
from typing import Protocol

from asynctrack._common.artifact import Artifact


@dataclass(frozen=True, slots=True)
class LiveCounts:
    """What became of the traces so far.

    Attributes:
        sent: Traces that the receiver has taken.
        dropped: Traces that were not sent, by reason.
        waiting: Traces that have begun and are neither.
    """

    sent: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0


class LiveTraces(Protocol):
    """Sends the traces of one writer on; nothing here blocks or raises."""

    def start(self) -> None:
        """Get ready to send."""

    def take(self, artifact: Artifact, raw: bytes) -> None:
        """Take the next events, each once.

        Args:
            artifact: The events, packed.
            raw: Their lines.
        """

    def hurry(self) -> None:
        """Send what has ended at once from now on: the tracker closes."""

    def finish(self) -> ThreadFuture[None]:
        """Send what is there: nothing comes any more.

        Returns:
            Resolved when that is done, or given up.
        """

    def abandon(self) -> None:
        """Count as dropped what has not been sent: the time is over."""

    def counts(self) -> LiveCounts:
        """Return what became of the traces so far."""
