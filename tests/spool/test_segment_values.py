"""A segment with values before its events: what damage costs, and what it never does."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynctrack._common.lines import Entry, lines_of
from asynctrack._reading.decoding.segment_reader import SegmentReader
from asynctrack._spool.segment import Segment, Shape
from asynctrack._spool.segment_content import SegmentContent, read_segment
from asynctrack._spool.segment_format import CHECK_BYTES, HEADER_BYTES, SegmentError, make_record
from tests.property.segments import WRITER, segments
from tests.property.strategies import quick
from tests.spool.test_segment import FIRST, flipped
from tests.support.values import TIME, event_line, list_reference, text_name, value_line

A = "a" * 32


def text(seq: int, one: str) -> bytes:
    return value_line(WRITER, seq, text_name(one), one)


def items(seq: int, begin: int, *some: object) -> bytes:
    return value_line(WRITER, seq, A, {"from": begin, "items": list(some)})


def event(seq: int) -> bytes:
    return event_line(WRITER, seq, inputs=list_reference(A, 1))


ENTRIES = [
    text(FIRST, "x") + items(FIRST, 0, 1) + event(FIRST),
    event(FIRST + 1),
    items(FIRST + 2, 1, {}) + event(FIRST + 2),
    text(FIRST + 3, "y") + text(FIRST + 3, "z") + event(FIRST + 3),
    text(FIRST + 4, "") + event(FIRST + 4),
]
EXPECTED = tuple(enumerate(ENTRIES, FIRST))
RECORDS = [make_record(number, one) for number, one in enumerate(ENTRIES)]
ENDS = list(itertools.accumulate(map(len, RECORDS), initial=HEADER_BYTES))
BYTES = ENDS[-1]


def written(folder: Path, entries: list[bytes], *, trim: bool = True, room: int = 4096) -> Path:
    """Write a segment, and leave it as a killed writer does, or as one that ended."""
    segment = Segment(folder, 1, Shape(room, 40))
    segment.begin(WRITER, FIRST)
    for one in entries:
        assert segment.append(one)
    if trim:
        segment.trim()
    else:
        segment.let_go()
    return segment.path


def hit(at: int) -> int | None:
    """Return the record that a place is in; None for what is none."""
    return next((number for number, end in enumerate(ENDS[1:]) if ENDS[0] <= at < end), None)


@pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])
def test_what_was_appended_is_read_back(tmp_path: Path, trim: bool) -> None:
    """All entries, each with its number, by a replay and by who reads it beside its writer."""
    path = written(tmp_path, ENTRIES, trim=trim)
    assert read_segment(path) == SegmentContent(WRITER, FIRST, EXPECTED, ())
    with SegmentReader(path) as reader:
        assert list(reader.more()) == [*EXPECTED]
        extent = reader.extent()
    assert extent is not None
    assert (extent.first_seq, extent.last_seq) == (FIRST, FIRST + 4)
    assert (extent.size, extent.time_unix_nano) == (len(b"".join(ENTRIES)), TIME + FIRST)
    content = path.read_bytes().rstrip(b"\0").splitlines(keepends=True)
    assert b"".join(one for one in content if one.startswith(b"{")) == b"".join(ENTRIES)
    assert len(content) == 1 + sum(1 + len(lines_of(entry)) for entry in ENTRIES)


def test_what_is_uploaded_is_the_entries(tmp_path: Path) -> None:
    """One by one or at once, an entry is one record and one event, and comes out as it went in."""
    for folder in (tmp_path / "one", tmp_path / "all"):
        folder.mkdir()
        segment = Segment(folder, 1, Shape(4096, 5))
        segment.begin(WRITER, FIRST)
        if folder.name == "all":
            segment.fill(ENTRIES[:2])
        else:
            assert all(map(segment.append, ENTRIES[:2]))
        assert all(map(segment.append, ENTRIES[2:]))
        assert (segment.events, segment.used) == (5, len(b"".join(ENTRIES)))
        assert not segment.append(event(FIRST + 5)), "there are five records"
        assert segment.content() == b"".join(ENTRIES)
        assert segment.left() == EXPECTED
        assert segment.path.read_bytes()[HEADER_BYTES:BYTES] == b"".join(RECORDS)
        segment.remove()


@pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])
def test_truncated_at_every_byte(tmp_path: Path, trim: bool) -> None:
    """A file cut short costs the records behind the cut; a torn end counts as never written."""
    path = written(tmp_path, ENTRIES, trim=trim)
    for size in reversed(range(HEADER_BYTES, BYTES)):
        os.truncate(path, size)
        intact = sum(end <= size for end in ENDS[1:])
        content = read_segment(path)
        assert content.lines == EXPECTED[:intact]
        lost = range(FIRST + intact, FIRST + 5) if trim else ()
        assert content.damaged == tuple(lost), f"{size} bytes"
        with SegmentReader(path) as reader:
            assert list(reader.more()) == [*EXPECTED[:intact]]


@pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])
def test_every_bit_flipped(tmp_path: Path, trim: bool) -> None:
    """One flipped bit costs the one record it is in, which is named, and none in the header."""
    path = written(tmp_path, ENTRIES, trim=trim)
    whole = path.read_bytes()[: BYTES + 40]
    for bit in range(len(whole) * 8):
        with flipped(path, whole, bit):
            content = read_segment(path)
        number = hit(bit // 8)
        lost = () if number is None else (FIRST + number,)
        assert content.damaged == lost, f"bit {bit}"
        assert content.lines == tuple(one for one in EXPECTED if one[0] not in lost)


@pytest.mark.parametrize("byte", [*b'\0\n{}0"7', 0xFF])
def test_every_byte_changed(tmp_path: Path, byte: int) -> None:
    """Nor does a byte cost more, also one that looks like the end or the beginning of a line."""
    path = written(tmp_path, ENTRIES)
    whole = path.read_bytes()
    for at in range(len(whole)):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([byte]))
            file.flush()
            content = read_segment(path)
            file.seek(at)
            file.write(whole[at : at + 1])
        number = hit(at) if whole[at] != byte else None
        lost = () if number is None else (FIRST + number,)
        assert content.lines == tuple(one for one in EXPECTED if one[0] not in lost), f"at {at}"
        assert content.damaged == lost


@pytest.mark.parametrize("held", [True, False])
def test_a_file_cut_by_others_loses_only_what_was_cut(tmp_path: Path, held: bool) -> None:
    """The writer goes on behind the hole; every whole entry is there, the others are known."""
    for cut in range(0, ENDS[3], 5):
        segment = Segment(tmp_path, cut + 1, Shape(4096, 40))
        segment.begin(WRITER, FIRST)
        assert all(map(segment.append, ENTRIES[:3]))
        os.truncate(segment.path, cut)
        assert all(map(segment.append, ENTRIES[3:]))
        if not held:
            segment.seal()
            segment.let_go()
        left = tuple(
            one
            for one, end in zip(EXPECTED, ENDS[1:], strict=True)
            if end <= cut or one[0] >= FIRST + 3
        )
        if cut >= ENDS[3] - CHECK_BYTES:  # the lines are whole
            assert segment.content() == b"".join(ENTRIES)
        else:
            with pytest.raises(OSError, match="cut short or damaged by others"):
                segment.content()
        assert segment.left() == left
        assert read_segment(segment.path).lines == left
        segment.remove()


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, BYTES - 1), st.binary(min_size=1, max_size=20) | st.just(b'\n{"v":2,')
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_change_of_bytes_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    """Whatever a disk does to the file, each entry that is read was written, under its number."""
    path = written(tmp_path_factory.mktemp("segment"), ENTRIES)
    content = bytearray(path.read_bytes())
    for at, some in changes:
        content[at : at + len(some)] = some
    path.write_bytes(content)
    try:
        assert set(read_segment(path).lines) <= set(EXPECTED)
        with SegmentReader(path) as reader:
            assert {one for one in reader.more() if one[1]} <= set(EXPECTED)
    except SegmentError:
        pass


@quick
@given(entries=segments(FIRST), lost=st.data())
def test_any_entries_beside_a_damaged_one(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], lost: st.DataObject
) -> None:
    """Whatever values an entry has, it is found where the check before it is gone."""
    path = written(tmp_path_factory.mktemp("segment"), [one for _, one in entries], room=1 << 16)
    number = lost.draw(st.integers(0, len(entries) - 1))
    end = HEADER_BYTES + sum(len(entry) + CHECK_BYTES for _, entry in entries[: number + 1])
    at = end - lost.draw(st.integers(0, CHECK_BYTES)) - 1
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << lost.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = read_segment(path)
    assert found.lines == tuple(entries[:number] + entries[number + 1 :])
    assert found.damaged == (FIRST + number,)


def test_many_values_behind_a_damaged_record_are_found_at_once(tmp_path: Path) -> None:
    """It takes one look, however many lines there are: a mebibyte of them is read in no time."""
    entry = b"".join(items(FIRST + 1, at, at) for at in range(8_000)) + event(FIRST + 1)
    path = written(tmp_path, [ENTRIES[0], entry], room=1 << 21)
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + len(RECORDS[0]) - 5] ^= 1
    path.write_bytes(content)
    found = read_segment(path)
    assert (found.lines, found.damaged) == (((FIRST + 1, entry),), (FIRST,))
