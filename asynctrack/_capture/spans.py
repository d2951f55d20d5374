"""Open spans: which trace a span belongs to, and when it started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final
from uuid import UUID

MAX_OPEN_SPANS: Final = 100_000
"""Most open spans. Further ones abandon the oldest, so spans that never end do not pile up. An
event says so. The end of an abandoned span is still stored, but its duration is not measured."""

_CATCH_UP: Final = 4
"""Most spans that one start abandons, after a time without room for these events."""


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """A span that has started and not ended.

    Attributes:
        span_id: LangChain's run id.
        trace_id: The root's.
        started: Monotonic clock, in nanoseconds.
    """

    span_id: UUID
    trace_id: UUID
    started: int


class OpenSpans:
    """The spans that have started and not ended, bounded.

    Each dictionary operation used here is atomic, so it needs no lock.

    Args:
        max_open: How many are kept before the oldest is abandoned. While there is no room for the
            event that says so, at most twice as many are kept.
    """

    def __init__(self, max_open: int = MAX_OPEN_SPANS) -> None:
        self._spans: dict[UUID, tuple[UUID, int]] = {}
        self._inherited: dict[UUID, tuple[UUID, int]] = {}
        self._max_open = max_open
        self._oldest: list[UUID] = []  # the oldest one last
        self.on_evict: Callable[[OpenSpan, bool], bool] | None = None
        """Called with a span to abandon, and whether that is final; False gives it back."""

    def __len__(self) -> int:
        return len(self._spans)

    def open(self, span_id: UUID, parent_span_id: UUID | None, started: int) -> UUID:
        """Note the start of a span; return its trace, as ``trace_of`` does.

        Args:
            span_id: LangChain's run id.
            parent_span_id: Its parent's, or None for a root.
            started: Monotonic clock, in nanoseconds.
        """
        parent = None if parent_span_id is None else self._spans.get(parent_span_id)
        # Nearly always it is the open parent's. Looking there first takes a third of the time.
        trace_id = parent[0] if parent else self.trace_of(span_id, parent_span_id)
        self._spans[span_id] = (trace_id, started)
        if len(self._spans) > self._max_open:
            self._evict()
        return trace_id

    def end(self, span_id: UUID, parent_span_id: UUID | None) -> tuple[UUID, int | None]:
        """Forget a span; return its trace, and when it started or None if that is unknown."""
        span = self._spans.pop(span_id, None)
        if span is None and self._inherited:
            span = self._inherited.pop(span_id, None)
        return span or (self.trace_of(span_id, parent_span_id), None)

    def close(self, span_id: UUID) -> int | None:
        """Forget a span; return when it started, or None if that is unknown."""
        span = self._spans.pop(span_id, None)
        if span is None and self._inherited:
            span = self._inherited.pop(span_id, None)
        return None if span is None else span[1]

    def trace_of(self, span_id: UUID, parent_span_id: UUID | None) -> UUID:
        """Return the root of a span: its own, its parent's, or the parent if that is gone."""
        span = self._get(span_id)
        if span is not None:
            return span[0]
        if parent_span_id is None:
            return span_id
        parent = self._get(parent_span_id)
        return parent_span_id if parent is None else parent[0]

    def ids(self) -> list[UUID]:
        """Return the open spans, oldest first."""
        return list(self._spans)

    def take(self, span_id: UUID) -> OpenSpan | None:
        """Take a span out; None if it has ended."""
        span = self._spans.pop(span_id, None)
        return None if span is None else OpenSpan(span_id, *span)

    def give_back(self, span: OpenSpan) -> None:
        """Keep a span again that could not be abandoned yet."""
        self._spans[span.span_id] = (span.trace_id, span.started)

    def inherit(self, other: OpenSpans) -> None:
        """Know the spans that are open in another process, which says how they ended.

        For the child of a fork: it may end them, but only its parent may abandon them.
        """
        self._inherited = {**other._inherited, **other._spans}

    def _get(self, span_id: UUID) -> tuple[UUID, int] | None:
        span = self._spans.get(span_id)
        if span is None and self._inherited:
            span = self._inherited.get(span_id)
        return span

    def _evict(self) -> None:
        for _ in range(_CATCH_UP):
            over = len(self._spans) - self._max_open
            if over <= 0:
                return
            try:
                if not self._oldest:
                    # Several at a time: a dictionary is slow to find its first entry after many
                    # have gone.
                    self._oldest = list(islice(self._spans, max(1, self._max_open // 10)))[::-1]
                span = self.take(self._oldest.pop())
            except (IndexError, RuntimeError):
                return  # another thread changed it at this moment: the next start tries again
            if span is None or self.on_evict is None:
                continue
            final = over > self._max_open
            if not self.on_evict(span, final) and not final:
                self.give_back(span)
                return
