"""The parts of a piece: complete in themselves, and the same bytes whoever makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._buffer.store import MemoryPiece, SegmentPiece
from asynctrack._common.artifact import Batch
from asynctrack._common.lines import Entry
from asynctrack._delivery.encode import encode_batch, split_batch
from asynctrack._delivery.parts import Content, Part
from asynctrack._delivery.replay_plan import plan_dead_letter, plan_segment
from asynctrack._spool.folder import bury, divide
from asynctrack._spool.segment import Segment, Shape
from tests.property.segments import WRITER, segments
from tests.property.strategies import quick
from tests.support.spoiled import spoil_records
from tests.support.values import event_line, resolved, text_name, text_reference, value_line

FIRST = 7
LONG = "a text that stands once " * 9


def text(seq: int) -> bytes:
    return value_line(WRITER, seq, text_name(LONG), LONG)


def event(seq: int, *some: object) -> bytes:
    return event_line(WRITER, seq, inputs=list(some))


ENTRIES = [(7, text(7) + event(7, text_reference(LONG)))] + [
    (seq, event(seq, text_reference(LONG))) for seq in (8, 9, 10)
]


def in_memory(entries: list[Entry]) -> MemoryPiece:
    piece = MemoryPiece(FIRST, 10**9, 10**9)
    for _, entry in entries:
        assert piece.append(entry)
    return piece


def on_disk(folder: Path, entries: list[Entry]) -> SegmentPiece:
    segment = Segment(folder, 1, Shape(1 << 20, 100))
    segment.begin(WRITER, FIRST)
    segment.fill([entry for _, entry in entries])
    segment.seal()
    segment.let_go()
    return SegmentPiece(segment)


def halves(batch: Batch, depth: int) -> Iterator[Batch]:
    """What a replay makes of a batch that is too large, again and again."""
    if not depth or batch.first_seq == batch.last_seq:
        yield batch
        return
    for half in split_batch(batch):
        yield from halves(half, depth - 1)


@quick
@given(segments(FIRST), st.integers(0, 4))
def test_live_and_replayed_the_parts_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], depth: int
) -> None:
    """A writer divides a piece, a replay its segment, at once or bit by bit: the same objects."""
    folder = tmp_path_factory.mktemp("spool")
    piece = on_disk(folder, entries)
    whole = Batch(WRITER, FIRST, entries[-1][0], b"".join(entry for _, entry in entries))
    batches = list(halves(whole, depth))
    for live in (piece, in_memory(entries)):
        content = Content(WRITER, live)
        assert [content.batch(Part(one.first_seq, one.last_seq)) for one in batches] == batches
        content = Content(WRITER, live, dict(live.left()))
        assert [content.batch(Part(one.first_seq, one.last_seq)) for one in batches] == batches
    for one in batches[1:]:
        divide(piece.segment.path, one.first_seq)
    plan = plan_segment(piece.segment.path)
    assert plan.batches == tuple(batches)
    assert plan.events == len(entries)
    read = [event for one in batches for event in resolved(one.raw)]
    assert read == list(resolved(whole.raw)), "each says what it says in the whole"
    for one in batches:
        assert encode_batch(one, "none").events == len(list(resolved(one.raw)))


def test_without_what_others_have_damaged(tmp_path: Path) -> None:
    """Where the record that held a value is gone, the others stay, and refer to what is not there.

    Before that, what is left in other parts of it is used.
    """
    third = text(9) + event(9, text_reference(LONG))
    entries = [*ENTRIES[:2], (9, third), *ENTRIES[3:]]
    piece = on_disk(tmp_path, entries)
    spoil_records(piece.segment.path, 0, 2)
    left = dict(piece.left())
    assert left == {8: ENTRIES[1][1], 10: ENTRIES[3][1]}
    plan = plan_segment(piece.segment.path)
    assert plan.damaged == (7, 9)
    assert plan.batches == (Batch(WRITER, 8, 8, left[8]), Batch(WRITER, 10, 10, left[10]))
    content = Content(WRITER, piece, left)
    assert plan.batches == (content.batch(Part(8, 8)), content.batch(Part(10, 10)))
    spoil_records(piece.segment.path, 0, 1, 2)  # the first and the third are whole again
    left = dict(piece.left())
    assert sorted(left) == [7, 9, 10]
    batches = plan_segment(piece.segment.path).batches
    assert [(one.first_seq, one.last_seq) for one in batches] == [(7, 7), (9, 10)]
    spoil_records(piece.segment.path, 2)
    last = Batch(WRITER, 10, 10, text(10) + ENTRIES[3][1])
    assert plan_segment(piece.segment.path).batches[1] == last
    assert Content(WRITER, piece, dict(piece.left())).batch(Part(10, 10)) == last


def test_dead_letters_are_complete(tmp_path: Path) -> None:
    """What is refused is set aside with its values, and is sent again in parts that have them."""
    content = Content(WRITER, in_memory(ENTRIES))
    path = bury(tmp_path, content.batch(Part(9, 10)), "no")
    ninth, tenth = ENTRIES[2][1], ENTRIES[3][1]
    assert path.read_bytes() == text(9) + ninth + tenth
    plan = plan_dead_letter(path)
    assert (plan.events, plan.problem) == (2, "")
    assert plan.batches == (Batch(WRITER, 9, 10, text(9) + ninth + tenth),)
    divide(path, 10)
    assert plan_dead_letter(path).batches == (
        Batch(WRITER, 9, 9, text(9) + ninth),
        Batch(WRITER, 10, 10, text(10) + tenth),
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        text(9) + ENTRIES[2][1],
        text(9) + ENTRIES[2][1] + text(10),
        ENTRIES[2][1] + ENTRIES[3][1] + text(10),
        text(8) + ENTRIES[2][1] + ENTRIES[3][1],
        text(9).replace(WRITER.encode(), b"ab" * 12) + ENTRIES[2][1] + ENTRIES[3][1],
        ENTRIES[2][1] + ENTRIES[3][1] + ENTRIES[3][1],
        b"\xff\n\xff\n",
    ],
)
def test_a_file_that_lacks_some_of_its_dead_letters_is_left(tmp_path: Path, raw: bytes) -> None:
    """One that is not whole, or has lines of others, is named: values alone are no events."""
    path = tmp_path / "000000000009-000000000010.dead"
    path.write_bytes(raw)
    assert plan_dead_letter(path).problem.endswith("not the events that its name says")
