"""A segment read while it is being written."""

from __future__ import annotations

import json
import threading
import zlib
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynctrack._reading.decoding import segment_reader
from asynctrack._reading.decoding.segment_reader import Extent, SegmentReader
from asynctrack._spool.segment import Segment, Shape
from asynctrack._spool.segment_format import HEADER_BYTES, SegmentError, make_record
from tests.reading.making import START, WRITER, event
from tests.support.segment_1 import write_segment_1
from tests.support.spoiled import spoil_header, spoil_lines


def line(seq: int) -> bytes:
    return json.dumps(event(seq), separators=(",", ":")).encode() + b"\n"


def made(folder: Path, seqs: range) -> Segment:
    segment = Segment(folder, 1, Shape(1 << 20, 5_000))
    segment.begin(WRITER, seqs.start)
    for seq in seqs:
        segment.append(line(seq))
    return segment


def test_each_line_comes_once_as_it_comes(tmp_path: Path) -> None:
    """What was there at first, then what came since; nothing twice, nothing left out."""
    segment = made(tmp_path, range(7, 10))
    with SegmentReader(segment.path) as reader:
        assert list(reader.more()) == [(seq, line(seq)) for seq in (7, 8, 9)]
        assert list(reader.more()) == []
        segment.append(line(10))
        assert list(reader.more()) == [(10, line(10))]
    segment.let_go()


def test_a_segment_that_nobody_has_begun_is_empty(tmp_path: Path) -> None:
    """A spare segment holds nothing, and what is written into it later is seen."""
    segment = Segment(tmp_path, 1, Shape(4096, 10))
    with SegmentReader(segment.path) as reader:
        assert reader.extent() is None
        assert list(reader.more()) == []
        segment.begin(WRITER, 1)
        segment.append(line(1))
        assert list(reader.more()) == [(1, line(1))]
    segment.let_go()


def test_it_is_read_to_its_end_when_it_is_sealed_cut_and_deleted(tmp_path: Path) -> None:
    """Renamed, cut to its size and removed after it was opened: every line is read all the same."""
    segment = made(tmp_path, range(1, 4))
    path = segment.path
    with SegmentReader(path) as reader:
        segment.append(line(4))
        segment.seal()
        segment.trim()
        with SegmentReader(path) as late:  # by the name that it had
            assert [seq for seq, _ in late.more()] == [1, 2, 3, 4]
        segment.remove()
        assert [seq for seq, _ in reader.more()] == [1, 2, 3, 4]
    with pytest.raises(FileNotFoundError):
        SegmentReader(path)


def test_half_a_record_is_not_there_yet(tmp_path: Path) -> None:
    """An end that is not whole is no damage: the rest may come, and is read then."""
    segment = made(tmp_path, range(1, 3))
    record = make_record(2, line(3))
    with SegmentReader(segment.path) as reader:
        assert [seq for seq, _ in reader.more()] == [1, 2]
        for half in range(0, len(record), 10):
            segment._file.write_at(record[:half], segment._end)
            assert list(reader.more()) == []
        segment._file.write_at(record, segment._end)
        assert list(reader.more()) == [(3, line(3))]
    segment.let_go()


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_what_is_written_behind_a_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """A read has passed a record's place when that and the next one are written."""
    segment = made(tmp_path, range(1, 5))
    read = segment_reader._read
    reads: list[int] = []
    size = len(make_record(0, line(1)))

    def passing(file: FileIO, at: int, count: int) -> bytes:
        content = read(file, at, count)
        reads.append(at)
        if len(reads) > 1:
            return content
        missed = behind * size
        return content[:missed] + bytes(size) + content[missed + size :]

    monkeypatch.setattr(segment_reader, "_read", passing)
    with SegmentReader(segment.path) as reader:
        assert list(reader.more()) == [(seq, line(seq)) for seq in range(1, 5)]
    reads.clear()
    with SegmentReader(segment.path) as reader:
        extent = reader.extent()
        assert extent is not None and (extent.first_seq, extent.last_seq) == (1, 4)
    segment.let_go()


def test_a_file_cut_by_others_is_read_behind_the_hole(tmp_path: Path) -> None:
    """What is gone is called damaged; what its writer adds after that is read."""
    segment = made(tmp_path, range(1, 4))
    segment.path.write_bytes(b"")
    for seq in (4, 5):
        assert segment.append(line(seq))
    with SegmentReader(segment.path) as reader:
        extent = reader.extent()
        assert extent is not None and (extent.first_seq, extent.last_seq) == (4, 5)
        assert list(reader.more()) == [(1, b""), (2, b""), (3, b""), (4, line(4)), (5, line(5))]
    segment.let_go()


def test_a_long_segment_is_measured_by_its_end(tmp_path: Path) -> None:
    """The last line is found also where it is longer than what is looked at first."""
    segment = made(tmp_path, range(1, 2_001))
    with SegmentReader(segment.path) as reader:
        extent = reader.extent()
        assert extent is not None
        assert (extent.last_seq, extent.size) == (2_000, segment.used)
        assert segment.append(line(2_001)[:-2] + b',"x":"' + b"x" * 100_000 + b'"}\n')
        extent = reader.extent()
        assert extent is not None
        assert (extent.last_seq, extent.size) == (2_001, segment.used)
    segment.let_go()


@pytest.mark.parametrize("room", [0, 100_000], ids=["ended", "killed"])
def test_a_segment_of_format_1_is_read(tmp_path: Path, room: int) -> None:
    """What an older asynctrack left, or one that lives beside this one writes right now."""
    path = tmp_path / "00000001.open"
    lines = [line(seq) for seq in range(7, 12)]
    write_segment_1(path, WRITER, 7, lines[:4], room=room, max_events=9)
    with SegmentReader(path) as reader:
        assert [seq for seq, _ in reader.more()] == [7, 8, 9, 10]
        assert list(reader.more()) == []
        write_segment_1(path, WRITER, 7, lines, room=room, max_events=9)
        size = len(b"".join(lines))
        assert reader.extent() == Extent(WRITER, 7, 11, size, START + 7_000)
        assert list(reader.more()) == [(11, lines[4])]
    write_segment_1(path, WRITER, 7, [*lines[:2], lines[2][:-4] + b"???\n", *lines[3:]])
    index = bytearray(path.with_suffix(".idx").read_bytes())
    index[64 + 2 * 12 + 8] ^= 1
    path.with_suffix(".idx").write_bytes(index)
    with SegmentReader(path) as reader:
        assert [(seq, bool(text)) for seq, text in reader.more()] == [
            (7, True),
            (8, True),
            (9, False),
            (10, True),
            (11, True),
        ]


def test_a_damaged_line_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    """A bad line with sound ones behind it is damaged; its number is given."""
    segment = made(tmp_path, range(1, 6))
    spoil_lines(segment.path, 2)
    with SegmentReader(segment.path) as reader:
        found = list(reader.more())
    assert [seq for seq, _ in found] == [1, 2, 3, 4, 5]
    assert [seq for seq, text in found if not text] == [3]
    segment.let_go()


def test_without_its_header_lines_say_whose_they_are(tmp_path: Path) -> None:
    """A damaged header costs nothing while a line is sound."""
    segment = made(tmp_path, range(5, 8))
    spoil_header(segment.path)
    with SegmentReader(segment.path) as reader:
        extent = Extent(WRITER, 5, 7, 3 * len(line(5)), START + 5_000)
        assert reader.extent() == extent
        assert [seq for seq, _ in reader.more()] == [5, 6, 7]
    segment.let_go()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """What a later version has written is not guessed at."""
    segment = made(tmp_path, range(1, 2))
    text = b"ATSPOOL 99 ".ljust(HEADER_BYTES - 9)
    segment._file.write_at(text + b"%08x\n" % zlib.crc32(text), 0)
    with SegmentReader(segment.path) as reader, pytest.raises(SegmentError, match="newer version"):
        list(reader.more())
    segment.let_go()


def test_a_reader_beside_a_writer_sees_a_beginning_and_no_damage(tmp_path: Path) -> None:
    """Thousands of looks while another thread writes: always the next lines, never a torn one."""
    segment = Segment(tmp_path, 1, Shape(1 << 20, 5_000))
    segment.begin(WRITER, 1)
    lines = [line(seq) for seq in range(1, 4_001)]

    def write() -> None:
        for one in lines:
            segment.append(one)

    writer = threading.Thread(target=write)
    found: list[tuple[int, bytes]] = []
    with SegmentReader(segment.path) as reader:
        writer.start()
        while len(found) < len(lines):  # its end is the test's time limit
            found += reader.more()
    writer.join()
    assert found == list(enumerate(lines, 1))
    segment.let_go()


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_change_of_bytes_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever a disk does to the file, each line that is read was written, under its number."""
    segment = made(tmp_path_factory.mktemp("segment"), range(1, 9))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, segment._end - 1))
        segment._file.write_at(data.draw(st.binary(min_size=1, max_size=1)), at)
    with SegmentReader(segment.path) as reader:
        try:
            found = list(reader.more())
        except SegmentError:
            found = []
    for seq, text in found:
        assert not text or text == line(seq)
    segment.let_go()
