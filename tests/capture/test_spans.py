"""Open spans: their trace, their start, and their bound."""

from __future__ import annotations

import threading
from uuid import UUID

from asynctrack._capture.spans import OpenSpan, OpenSpans


def ids(*numbers: int) -> list[UUID]:
    return [UUID(int=number) for number in numbers]


def test_a_trace_is_its_root() -> None:
    """Every span below a root is of the root's trace, however deep."""
    root, child, grandchild, other = ids(1, 2, 3, 4)
    spans = OpenSpans()
    spans.open(root, None, 10)
    spans.open(child, root, 20)
    spans.open(grandchild, child, 30)
    spans.open(other, None, 40)
    assert [spans.trace_of(span, None) for span in (root, child, grandchild, other)] == [
        root, root, root, other,
    ]  # fmt: skip
    assert len(spans) == 4


def test_durations() -> None:
    """Closing a span tells when it started, once."""
    (span,) = ids(1)
    spans = OpenSpans()
    spans.open(span, None, 10)
    assert spans.close(span) == 10
    assert spans.close(span) is None
    assert len(spans) == 0


def test_a_parent_that_is_gone() -> None:
    """A child that outlives its parent, or whose parent was never seen, names the parent."""
    parent, child, late = ids(1, 2, 3)
    spans = OpenSpans()
    spans.open(child, parent, 10)
    assert spans.trace_of(child, parent) == parent
    assert spans.trace_of(late, parent) == parent
    assert spans.trace_of(late, None) == late


def test_a_trace_outlives_its_root() -> None:
    """What was opened below a root stays of its trace when the root has ended."""
    root, child, grandchild = ids(1, 2, 3)
    spans = OpenSpans()
    spans.open(root, None, 10)
    spans.open(child, root, 20)
    spans.close(root)
    assert spans.trace_of(grandchild, child) == root


def test_spans_that_never_end() -> None:
    """Spans that never end are forgotten, oldest first; the others keep their start."""
    spans = OpenSpans(max_open=100)
    for number in range(1_000):
        spans.open(UUID(int=number), None, number)
    assert len(spans) == 100
    assert spans.close(UUID(int=899)) is None
    assert spans.close(UUID(int=900)) == 900


def test_the_oldest_is_abandoned_unless_there_is_no_room() -> None:
    """It is told of each; one that cannot be said yet is kept, up to twice as many."""
    said: list[tuple[int, bool]] = []
    room = True

    def on_evict(span: OpenSpan, final: bool) -> bool:
        said.append((span.span_id.int, final))
        return room

    spans = OpenSpans(max_open=3)
    spans.on_evict = on_evict
    for number in range(5):
        spans.open(UUID(int=number), None, number)
    assert said == [(0, False), (1, False)] and len(spans) == 3
    room = False
    for number in range(5, 20):
        spans.open(UUID(int=number), None, number)
    assert len(spans) == 6, "twice the bound, while nothing can be said"
    assert sum(final for _, final in said) == 12, "and beyond that, forgotten"
    room = True
    assert spans.close(UUID(int=19)) == 19
    spans.open(UUID(int=20), None, 20)
    assert len(spans) == 3, "it catches up"


def test_what_is_inherited_is_the_parents_to_abandon() -> None:
    """The child of a fork may end a span of its parent, but never says it is abandoned."""
    root, child, own = ids(1, 2, 3)
    parent = OpenSpans()
    parent.open(root, None, 10)
    forked = OpenSpans()
    forked.inherit(parent)
    forked.open(child, root, 20)
    forked.open(own, None, 30)
    assert forked.ids() == [child, own]
    assert forked.trace_of(child, root) == root
    assert forked.close(root) == 10
    assert parent.close(root) == 10


def test_threads() -> None:
    """Threads that open and close at the bound disturb each other in nothing."""
    spans = OpenSpans(max_open=50)
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(5_000):
                span = UUID(int=thread * 10**6 + number)
                spans.open(span, None, number)
                spans.trace_of(span, None)
                if number % 2:
                    spans.close(span)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert errors == []
    assert len(spans) <= 50 + len(threads)
