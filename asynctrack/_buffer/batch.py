"""When a batch is cut: a pure decision, the clock passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CutPolicy:
    """When a batch that is not full is cut.

    Attributes:
        max_delay: Age of its first event, in seconds.
    """

    max_delay: float

    def wait(self, events: int, oldest: float | None, now: float, *, hurry: bool) -> float | None:
        """Return how long to wait before the next batch is cut.

        Args:
            events: Events to be cut.
            oldest: When the first of them came in, on the clock of ``now``, in seconds.
            now: The monotonic clock, in seconds.
            hurry: Cut whatever there is: a full batch, a flush, callbacks waiting for room.

        Returns:
            Seconds; 0 cuts now; None waits until there is something to cut.
        """
        if not events:
            return None
        if hurry or oldest is None:
            return 0.0
        # Never longer than the delay, whatever the clock has done.
        return min(max(0.0, oldest + self.max_delay - now), self.max_delay)
