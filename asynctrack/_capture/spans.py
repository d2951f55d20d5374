"""Open spans: which trace a span belongs to, and when it started."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final
from uuid import UUID

MAX_OPEN_SPANS: Final = 100_000
"""More open spans than this are abandoned, oldest first: spans that never end must not pile up.
An event says so. The end of one is stored all the same; only its duration is not measured."""

_CATCH_UP: Final = 4
"""How many are abandoned with one start at the most, where there was no room before."""


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
        max_open: How many are kept, until an event says of the oldest that it is abandoned. Where
            there is no room for that event, twice as many are kept at the most.
    """

    def __init__(self, max_open: int = MAX_OPEN_SPANS) -> None:
        self._spans: dict[UUID, tuple[UUID, int]] = {}
        self._inherited: dict[UUID, tuple[UUID, int]] = {}
        self._max_open = max_open
        self._oldest: deque[UUID] = deque()
        self.on_evict: Callable[[OpenSpan, bool], bool] | None = None
        """Told of a span that is abandoned, and whether that is final; False gives it back."""

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
        # Nearly always it is the open parent's, which takes a third of the time to find.
        trace_id = parent[0] if parent else self.trace_of(span_id, parent_span_id)
        self._spans[span_id] = (trace_id, started)
        if len(self._spans) > self._max_open:
            self._evict()
        return trace_id

    def end(self, span_id: UUID, parent_span_id: UUID | None) -> tuple[UUID, int | None]:
        """Forget a span; return its trace, and when it started where that is known."""
        span = self._spans.pop(span_id, None)
        if span is None and self._inherited:
            span = self._inherited.pop(span_id, None)
        return span or (self.trace_of(span_id, parent_span_id), None)

    def close(self, span_id: UUID) -> int | None:
        """Forget a span; return when it started, or None where that is not known."""
        span = self._spans.pop(span_id, None)
        if span is None and self._inherited:
            span = self._inherited.pop(span_id, None)
        return None if span is None else span[1]

    def trace_of(self, span_id: UUID, parent_span_id: UUID | None) -> UUID:
        """Return the root of a span: its own, its parent's, or the parent where that is gone."""
        span = self._get(span_id)
        if span is not None:
            return span[0]
        if parent_span_id is None:
            return span_id
        parent = self._get(parent_span_id)
        return parent_span_id if parent is None else parent[0]

    def ids(self) -> list[UUID]:
        """Return those that are open, oldest first."""
        return list(self._spans)

    def take(self, span_id: UUID) -> OpenSpan | None:
        """Take a span out; None where it has ended."""
        span = self._spans.pop(span_id, None)
        return None if span is None else OpenSpan(span_id, *span)

    def give_back(self, span: OpenSpan) -> None:
        """Keep a span that was taken out, and could not be abandoned yet."""
        self._spans[span.span_id] = (span.trace_id, span.started)

    def inherit(self, other: OpenSpans) -> None:
        """Know the spans that are open in another, which is the one to say how they ended.

        For the child of a fork: it may end them, but they are its parent's to abandon.
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
                    # Several at a time: a dictionary finds its first entry slowly once many are
                    # gone.
                    self._oldest.extend(islice(self._spans, max(1, self._max_open // 10)))
                span = self.take(self._oldest.popleft())
            except (IndexError, RuntimeError):
                return  # another thread changed it at this very moment: the next start tries again
            if span is None or self.on_evict is None:
                continue
            final = over > self._max_open
            if not self.on_evict(span, final) and not final:
                self.give_back(span)
                return
