"""Open spans: which trace a span belongs to, when it started, and what is open below it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from uuid import UUID

from asynctrack._capture.sampling import Fate
from asynctrack._common.outcome import PARENT_ENDED

MAX_OPEN_SPANS: Final = 100_000
"""Most open spans. Further ones abandon the oldest, so spans that never end do not pile up. An
event says so. The end of an abandoned span is still stored."""
MAX_ENDED: Final = 1_000
"""Latest spans that have ended and are known at most, for what comes late."""
MAX_FRESH: Final = 64
"""Latest starts whose inputs are known, to tell a start that comes twice from another call. So no
payload is kept for long that nobody else keeps."""

_Key = Hashable
_CATCH_UP: Final = 4
"""Most spans that one start abandons, after a time without room for these events."""


@dataclass(slots=True, eq=False)
class OpenSpan:
    """A span that has started, and what is known of its end.

    Attributes:
        span_id: LangChain's run id.
        trace_id: The root's.
        started: Monotonic clock, in nanoseconds; None if its start was not seen.
        parent: The span above it, if that was open.
        said: What its start said: its name, and the object that went in; None if that is not known
            any more. A second start that says the same is the same start.
        below: What is open right below it; None if nothing ever was.
        starts: How often it was started: by a handler that was given several times.
        ends: How often it has ended.
        placed: The parent that its events name in the place of LangChain's; None for that one.
        fate: What becomes of its trace, the same for all of it; None where it is simply kept.
    """

    span_id: UUID
    trace_id: UUID
    started: int | None
    parent: OpenSpan | None = field(default=None, repr=False)
    said: tuple[object, object] | None = field(default=None, repr=False)
    below: set[OpenSpan] | None = field(default=None, repr=False)
    starts: int = 1
    ends: int = 0
    placed: UUID | None = None
    fate: Fate | None = None

    @property
    def is_root(self) -> bool:
        """Whether no parent of it was seen."""
        return self.trace_id is self.span_id


class OpenSpans:
    """The spans that have started and not ended, bounded.

    Each operation on a dictionary or a set used here is atomic, so it needs no lock.

    Args:
        max_open: How many are kept before the oldest is abandoned. While there is no room for the
            event that says so, at most twice as many are kept.
    """

    def __init__(self, max_open: int = MAX_OPEN_SPANS) -> None:
        # By the ids' numbers: Python's own code hashes a UUID, and takes five times as long.
        self._spans: dict[_Key, OpenSpan] = {}
        self._inherited: dict[_Key, OpenSpan] = {}
        self._fresh: list[OpenSpan] = []  # a deque takes 760 bytes, and trackers are many
        self._going_on: dict[_Key, OpenSpan] = {}
        # Two generations: a dictionary is slow to find its first entry after many have gone.
        self._ended: dict[_Key, OpenSpan] = {}
        self._ended_before: dict[_Key, OpenSpan] = {}
        self._max_open = max_open
        self._oldest: list[_Key] = []  # the oldest one last
        self.on_abandon: Callable[[OpenSpan, str, bool], bool] | None = None
        """Called with a span to abandon, the reason, and whether that is final; False gives it
        back."""

    def __len__(self) -> int:
        return len(self._spans)

    def open(
        self,
        span_id: UUID,
        parent_span_id: UUID | None,
        started: int,
        said: tuple[object, object] | None = None,
    ) -> OpenSpan | None:
        """Note the start of a span.

        Args:
            span_id: LangChain's run id.
            parent_span_id: Its parent's, or None for a root.
            started: Monotonic clock, in nanoseconds.
            said: What it says: its name, and the object that goes in.

        Returns:
            The span; None if one of this id is open, see ``take_again``.
        """
        key = _key_of(span_id)
        parent = None if parent_span_id is None else self._spans.get(_key_of(parent_span_id))
        # Nearly always it is the open parent's. Looking there first takes a third of the time.
        above = parent
        if above is None and parent_span_id is not None:
            above = self._get(parent_span_id)
        trace_id = span_id if above is None else above.trace_id
        span = OpenSpan(span_id, trace_id, started, parent, said)
        if above is not None:
            span.fate = above.fate
        if self._spans.setdefault(key, span) is not span:
            return None
        if parent is not None:
            if parent.below is None:
                parent.below = {span}
            else:
                parent.below.add(span)
        self._fresh.append(span)
        if len(self._fresh) > MAX_FRESH:
            try:
                self._fresh.pop(0).said = None
            except IndexError:
                pass  # another thread was faster
        if len(self._spans) > self._max_open:
            self._evict()
        return span

    def take_again(
        self, span_id: UUID, parent_span_id: UUID | None, said: tuple[object, object]
    ) -> bool:
        """Return whether a span that is open has started a second time: in the same place, with the
        same name and inputs, before anything else of it came."""
        span = self._spans.get(_key_of(span_id))
        if span is None or span.said is None or span.below is not None:
            return False
        if span.said[0] != said[0] or span.said[1] is not said[1]:
            return False
        parent = None if parent_span_id is None else self._spans.get(_key_of(parent_span_id))
        if parent is not span.parent:
            return False
        span.starts += 1
        return True

    def end(
        self, span_id: UUID, parent_span_id: UUID | None, *, cancelled: bool = False
    ) -> OpenSpan:
        """Forget a span, and abandon what is open below it.

        Args:
            span_id: LangChain's run id.
            parent_span_id: Its parent's, or None for a root.
            cancelled: Whether it was cancelled, and what is below it with it. Else that may go on
                in the background, and its end may come.

        Returns:
            The span. It has ``ends`` of 1 at its first end, also where it was abandoned before or
            is not known.
        """
        key = _key_of(span_id)
        span = self._spans.pop(key, None)
        if span is None:
            span = self._known(span_id, parent_span_id)
        span.ends += 1
        if span.ends > 1:
            return span
        parent = span.parent
        if parent is not None:
            if parent.below is not None:
                parent.below.discard(span)
            span.parent = None  # else whoever is remembered would keep all above it
        self._remember(key, span)  # first: what is abandoned asks for its root
        if span.below:
            self._abandon_below(span, cancelled)
        span.below = span.said = None
        return span

    def started(self, span_id: UUID) -> int | None:
        """Return when a span started that is open or has just ended; None if that is not known."""
        span = self._get(span_id)
        return None if span is None else span.started

    def trace_of(self, span_id: UUID, parent_span_id: UUID | None) -> UUID:
        """Return the root of a span: its parent's, or itself if its parent was not seen."""
        span = self.nearest(span_id, parent_span_id)
        return span_id if span is None else span.trace_id

    def known(self, span_id: UUID) -> OpenSpan | None:
        """Return a span that is open or has just ended; None if it is not known."""
        return self._spans.get(_key_of(span_id)) or self._get(span_id)

    def nearest(self, span_id: UUID, parent_span_id: UUID | None) -> OpenSpan | None:
        """Return a span, or its parent where it was not seen; None where neither was."""
        span = self.known(span_id)
        if span is None and parent_span_id is not None:
            span = self._get(parent_span_id)
        return span

    def ids(self) -> list[UUID]:
        """Return the open spans, oldest first."""
        return [span.span_id for span in list(self._spans.values())]

    def take(self, span_id: UUID) -> OpenSpan | None:
        """Take a span out that is abandoned; None if it has ended."""
        return self._take(_key_of(span_id))

    def give_back(self, span: OpenSpan) -> None:
        """Keep a span again that could not be abandoned yet."""
        self._spans[_key_of(span.span_id)] = span
        if span.parent is not None and span.parent.below is not None:
            span.parent.below.add(span)

    def inherit(self, other: OpenSpans) -> None:
        """Know the spans that are open in another process, which says how they ended.

        For the child of a fork: it may end them, but only its parent may abandon them, and only
        its parent keeps what is held until its end is known.
        """
        self._inherited = {
            **other._inherited, **other._going_on, **other._ended_before, **other._ended,
            **other._spans,
        }  # fmt: skip
        for span in self._inherited.values():
            if span.fate is not None and span.fate.left_out is None:
                span.fate.left_out = True

    def _known(self, span_id: UUID, parent_span_id: UUID | None) -> OpenSpan:
        """Return a span that is not open here: another process's, one that has ended, or a new."""
        key = _key_of(span_id)
        span = self._inherited.pop(key, None) if self._inherited else None
        span = span or self._going_on.pop(key, None)
        span = span or self._ended.get(key) or self._ended_before.get(key)
        if span is None:
            above = None if parent_span_id is None else self._get(parent_span_id)
            span = OpenSpan(span_id, span_id if above is None else above.trace_id, None)
            span.fate = None if above is None else above.fate
        return span

    def _get(self, span_id: UUID) -> OpenSpan | None:
        key = _key_of(span_id)
        return (
            self._spans.get(key)
            or self._ended.get(key)
            or self._ended_before.get(key)
            or self._going_on.get(key)
            or self._inherited.get(key)
        )

    def _take(self, key: _Key) -> OpenSpan | None:
        span = self._spans.pop(key, None)
        if span is not None:
            span.said = None
            if span.parent is not None and span.parent.below is not None:
                span.parent.below.discard(span)
            self._remember(key, span)
        return span

    def _remember(self, key: _Key, span: OpenSpan) -> None:
        if len(self._ended) >= MAX_ENDED // 2:
            self._ended_before, self._ended = self._ended, {}
        self._ended[key] = span

    def _abandon_below(self, top: OpenSpan, cancelled: bool) -> None:
        """Say of all that is open below a span that has ended that nobody waits for it."""
        waiting = [top]
        while waiting:
            span = waiting.pop()
            below, span.below = span.below, None
            for child in list(below or ()):
                waiting.append(child)
                key = _key_of(child.span_id)
                if self._take(key) is not None and self.on_abandon is not None:
                    self.on_abandon(child, PARENT_ENDED, True)
                child.parent = None  # as in ``end``
                if not cancelled:
                    self._going_on[key] = child
                    if len(self._going_on) > self._max_open:
                        self._going_on.clear()  # rare: their ends count, only their times are lost

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
                span = self._take(self._oldest.pop())
            except (IndexError, RuntimeError):
                return  # another thread changed it at this moment: the next start tries again
            if span is None or self.on_abandon is None:
                continue
            final = over > self._max_open
            if not self.on_abandon(span, "too_many", final) and not final:
                self.give_back(span)
                return


def _key_of(span_id: UUID) -> _Key:
    try:
        return span_id.int
    except AttributeError:  # called by hand, with an id of another kind
        return span_id
