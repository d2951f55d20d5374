"""Open spans: which trace a span belongs to, and when it started."""

from __future__ import annotations

from typing import Final
from uuid import UUID

MAX_OPEN_SPANS: Final = 100_000
"""More open spans than this are forgotten, oldest first: spans that never end must not pile up.
A forgotten span's end is stored all the same; only its duration is not measured."""


class OpenSpans:
    """The spans that have started and not ended, bounded.

    Each dictionary operation used here is atomic, so it needs no lock.

    Args:
        max_open: How many are kept at the most.
    """

    def __init__(self, max_open: int = MAX_OPEN_SPANS) -> None:
        self._spans: dict[UUID, tuple[UUID, int]] = {}
        self._max_open = max_open

    def __len__(self) -> int:
        return len(self._spans)

    def open(self, span_id: UUID, parent_span_id: UUID | None, started: int) -> None:
        """Note the start of a span.

        Args:
            span_id: LangChain's run id.
            parent_span_id: Its parent's, or None for a root.
            started: Monotonic clock, in nanoseconds.
        """
        self._spans[span_id] = (self.trace_of(span_id, parent_span_id), started)
        if len(self._spans) > self._max_open:
            try:
                self._spans.pop(next(iter(self._spans)), None)
            except (StopIteration, RuntimeError):
                pass  # another thread changed it at this very moment: the next start tries again

    def close(self, span_id: UUID) -> int | None:
        """Forget a span; return when it started, or None where that is not known."""
        span = self._spans.pop(span_id, None)
        return None if span is None else span[1]

    def trace_of(self, span_id: UUID, parent_span_id: UUID | None) -> UUID:
        """Return the root of a span: its own, its parent's, or the parent where that is gone."""
        span = self._spans.get(span_id)
        if span is not None:
            return span[0]
        if parent_span_id is None:
            return span_id
        parent = self._spans.get(parent_span_id)
        return parent_span_id if parent is None else parent[0]
