"""Period: from when to when a question is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Period:
    """From when to when, in nanoseconds since 1970.

    Attributes:
        since_ns: The first moment that counts; None sets no beginning.
        until_ns: The first moment that does not count any more; None sets no end.
    """

    since_ns: int | None = None
    until_ns: int | None = None

    def __bool__(self) -> bool:
        """Tell whether it leaves anything out."""
        return self.since_ns is not None or self.until_ns is not None

    def holds(self, at: int | None) -> bool:
        """Tell whether a moment is in it. An unknown one is only where everything is."""
        if at is None:
            return not self
        return (self.since_ns is None or at >= self.since_ns) and (
            self.until_ns is None or at < self.until_ns
        )

    def touches(self, first: int | None, last: int | None) -> bool:
        """Tell whether any moment between two is in it.

        Args:
            first: The first moment; None if unknown, as early as can be.
            last: The last moment; None if unknown, as late as can be.
        """
        before = self.until_ns is not None and first is not None and first >= self.until_ns
        after = self.since_ns is not None and last is not None and last < self.since_ns
        return not before and not after


ALL: Final = Period()
"""All time."""
