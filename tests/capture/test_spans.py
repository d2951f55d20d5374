"""Open spans: their trace, their start, and their bound."""

from __future__ import annotations

import threading
from uuid import UUID

from asynctrack._capture.spans import MAX_ENDED, MAX_FRESH, OpenSpan, OpenSpans


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


def test_starts() -> None:
    """The end of a span tells when it started, and that it is the first one."""
    (span,) = ids(1)
    spans = OpenSpans()
    spans.open(span, None, 10)
    ended = spans.end(span, None)
    assert (ended.started, ended.ends, ended.is_root) == (10, 1, True)
    assert spans.end(span, None).ends == 2
    assert len(spans) == 0


def test_a_parent_that_nobody_has_seen() -> None:
    """A span whose parent was never seen is a root, as in langchain-core."""
    parent, root, child, other = ids(1, 2, 3, 4)
    spans = OpenSpans()
    spans.open(root, parent, 10)
    spans.open(child, root, 20)
    spans.open(other, parent, 30)
    assert [spans.trace_of(one, parent) for one in (root, child, other)] == [root, root, other]
    assert [spans.end(one, parent).is_root for one in (child, root, other)] == [False, True, True]
    unseen = spans.end(*ids(9, 8))
    assert (unseen.started, unseen.trace_id, unseen.is_root) == (None, UUID(int=9), True)


def test_a_trace_outlives_its_root() -> None:
    """What comes below a span that has ended is of its trace still, for a while."""
    root, child, grandchild, late = ids(1, 2, 3, 4)
    spans = OpenSpans()
    spans.open(root, None, 10)
    spans.open(child, root, 20)
    spans.end(child, root)
    spans.end(root, None)
    opened = spans.open(grandchild, child, 30)
    assert opened is not None and opened.trace_id == root and not opened.is_root
    assert spans.trace_of(late, root) == root
    for number in range(100, 100 + 2 * MAX_ENDED):
        spans.open(UUID(int=number), None, number)
        spans.end(UUID(int=number), None)
    assert spans.trace_of(late, root) == late, "not for good"


def test_a_parent_that_ends_ends_what_is_below() -> None:
    """What is open below a span that ends is abandoned, at any depth; an end may still come."""
    said: list[tuple[int, str]] = []
    root, one, two, deep, beside = ids(1, 2, 3, 4, 5)
    spans = OpenSpans()
    spans.on_abandon = lambda span, reason, final: bool(
        said.append((span.span_id.int, reason)) or final
    )
    for span, parent in ((root, None), (one, root), (two, root), (deep, two), (beside, root)):
        spans.open(span, parent, span.int)
    spans.end(beside, root)
    spans.end(two, root)
    assert said == [(4, "parent_ended")]
    spans.end(root, None)
    assert said == [(4, "parent_ended"), (2, "parent_ended")]
    assert len(spans) == 0
    late = spans.end(one, root)
    assert (late.started, late.ends, late.trace_id) == (2, 1, root), "measured, since it did end"
    assert spans.end(one, root).ends == 2


def test_a_start_that_comes_twice() -> None:
    """A second start with the same inputs is the same start; with others it is another call."""
    (span,) = ids(1)
    spans = OpenSpans()
    said = ("x", ["a"])
    others = [("x", ["a"]), ("y", said[1])]
    first = spans.open(span, None, 10, said)
    assert spans.open(span, None, 20, said) is None
    assert spans.take_again(span, None, ("x", said[1]))
    assert not any(spans.take_again(span, None, other) for other in others)
    assert not spans.take_again(span, span, said), "it is called in itself"
    assert not spans.take_again(UUID(int=9), None, said)
    assert spans.end(span, None) is first
    assert first is not None and (first.starts, first.ends) == (2, 1)
    assert first.said is None, "no payload is kept"


def test_payloads_are_kept_of_few_spans() -> None:
    """Of many that never end, the latest ones only."""
    spans = OpenSpans()
    opened = [spans.open(UUID(int=number), None, 1, ("x", [number])) for number in range(1_000)]
    kept = [span for span in opened if span is not None and span.said is not None]
    assert kept == opened[-MAX_FRESH:]


def test_spans_that_never_end() -> None:
    """Spans that never end are forgotten, oldest first; the others keep their start."""
    spans = OpenSpans(max_open=100)
    for number in range(5_000):
        spans.open(UUID(int=number), None, number)
    assert len(spans) == 100
    assert spans.end(UUID(int=1_000), None).started is None
    assert spans.end(UUID(int=4_900), None).started == 4_900


def test_the_oldest_is_abandoned_unless_there_is_no_room() -> None:
    """It is told of each; one that cannot be said yet is kept, up to twice as many."""
    said: list[tuple[int, bool]] = []
    room = True

    def on_abandon(span: OpenSpan, reason: str, final: bool) -> bool:
        assert reason == "too_many"
        said.append((span.span_id.int, final))
        return room

    spans = OpenSpans(max_open=3)
    spans.on_abandon = on_abandon
    for number in range(5):
        spans.open(UUID(int=number), None, number)
    assert said == [(0, False), (1, False)] and len(spans) == 3
    room = False
    for number in range(5, 20):
        spans.open(UUID(int=number), None, number)
    assert len(spans) == 6, "twice the bound, while nothing can be said"
    assert sum(final for _, final in said) == 12, "and beyond that, forgotten"
    room = True
    assert spans.end(UUID(int=19), None).started == 19
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
    assert forked.end(root, None).started == 10
    assert parent.end(root, None).started == 10


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
                    spans.end(span, None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert errors == []
    assert len(spans) <= 50 + len(threads)
