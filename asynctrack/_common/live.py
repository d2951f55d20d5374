"""What the way of the data knows of traces that are sent on live: whom it hands artifacts to; and
feedback as backends get it that take it beside traces."""

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
        feedback_sent: Feedback that the receiver has taken, where it takes any.
        feedback_dropped: Feedback that was not sent, by reason.
        feedback_waiting: Feedback that is neither.
    """

    sent: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    feedback_sent: int = 0
    feedback_dropped: Mapping[str, int] = field(default_factory=dict)
    feedback_waiting: int = 0


@dataclass(frozen=True, slots=True)
class LiveFeedback:
    """Feedback as it is sent on.

    Attributes:
        identity: 32 hexadecimal digits, the same whenever it is sent.
        trace_id: The trace: 32 hexadecimal digits, OpenTelemetry's id.
        span_id: The span that it is about: 16 of them; None for all of the trace.
        name: What is scored.
        value: The score, or a label; None for a comment alone.
        comment: In words, or None.
        user_id: Who says so, or None.
        time_unix_nano: When it was logged, in nanoseconds.
    """

    identity: str
    trace_id: str
    span_id: str | None
    name: str
    value: float | str | None
    comment: str | None
    user_id: str | None
    time_unix_nano: int


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
