"""A segment read while it is being written."""

from __future__ import annotations

import json
import threading
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynctrack._reading import _segment_reader
from asynctrack._reading._segment_reader import Extent, SegmentReader
from asynctrack._segment import Segment
from asynctrack._segment_format import ENTRY, HEADER_BYTES, SegmentError
from tests.read.making import START, WRITER, event


def line(seq: int) -> bytes:
    return json.dumps(event(seq), separators=(",", ":")).encode() + b"\n"


def made(folder: Path, seqs: range) -> Segment:
    segment = Segment(folder, 1, 1 << 20, 5_000)
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
    segment.unmap()


def test_a_segment_that_nobody_has_begun_is_empty(tmp_path: Path) -> None:
    """A spare segment holds nothing, and what is written into it later is seen."""
    segment = Segment(tmp_path, 1, 4096, 10)
    with SegmentReader(segment.path) as reader:
        assert reader.extent() is None
        assert list(reader.more()) == []
        segment.begin(WRITER, 1)
        segment.append(line(1))
        assert list(reader.more()) == [(1, line(1))]
    segment.unmap()


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


def test_an_entry_before_its_line_is_not_there_yet(tmp_path: Path) -> None:
    """An end that does not match is no damage: the line may come, and is read then."""
    segment = made(tmp_path, range(1, 3))
    entry = HEADER_BYTES + 2 * ENTRY.size
    whole = line(3)
    whole_segment = made_at(tmp_path / "other", range(1, 4))
    segment._index[entry : entry + ENTRY.size] = whole_segment._index[entry : entry + ENTRY.size]
    with SegmentReader(segment.path) as reader:
        assert [seq for seq, _ in reader.more()] == [1, 2]
        assert list(reader.more()) == []
        segment._lines[segment.used : segment.used + len(whole)] = whole
        assert list(reader.more()) == [(3, whole)]
    segment.unmap()
    whole_segment.unmap()


def made_at(folder: Path, seqs: range) -> Segment:
    folder.mkdir()
    return made(folder, seqs)


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_what_is_written_behind_a_read_of_the_index_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """A read of the index has passed an entry's place when that and the next one are written."""
    segment = made(tmp_path, range(1, 5))
    read = _segment_reader._read
    reads: list[int] = []

    def passing(file: FileIO, at: int, size: int) -> bytes:
        content = read(file, at, size)
        reads.append(at)
        if len(reads) > 1:
            return content
        missed = behind * ENTRY.size
        return content[:missed] + bytes(ENTRY.size) + content[missed + ENTRY.size :]

    monkeypatch.setattr(_segment_reader, "_read", passing)
    with SegmentReader(segment.path) as reader:
        assert list(reader.more()) == [(seq, line(seq)) for seq in range(1, 5)]
    reads.clear()
    with SegmentReader(segment.path) as reader:
        extent = reader.extent()
        assert extent is not None and (extent.first_seq, extent.last_seq) == (1, 4)
    segment.unmap()


def test_a_damaged_line_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    """A bad line with sound ones behind it is damaged; its number is given."""
    segment = made(tmp_path, range(1, 6))
    start = len(line(1)) + len(line(2))
    segment._lines[start + 5 : start + 6] = b"!"
    with SegmentReader(segment.path) as reader:
        found = list(reader.more())
    assert [seq for seq, _ in found] == [1, 2, 3, 4, 5]
    assert [seq for seq, text in found if not text] == [3]
    segment.unmap()


def test_without_its_header_lines_say_whose_they_are(tmp_path: Path) -> None:
    """A damaged header costs nothing while a line is sound."""
    segment = made(tmp_path, range(5, 8))
    segment._index[0:8] = b"\0" * 8
    with SegmentReader(segment.path) as reader:
        extent = Extent(WRITER, 5, 7, 3 * len(line(5)), START + 5_000)
        assert reader.extent() == extent
        assert [seq for seq, _ in reader.more()] == [5, 6, 7]
    segment.unmap()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """What a later version has written is not guessed at."""
    import struct
    import zlib

    segment = made(tmp_path, range(1, 2))
    header = bytearray(segment._index[:56])
    struct.pack_into("<H", header, 8, 99)
    segment._index[:56] = bytes(header)
    segment._index[56:60] = struct.pack("<I", zlib.crc32(bytes(header)))
    with SegmentReader(segment.path) as reader, pytest.raises(SegmentError, match="newer version"):
        list(reader.more())
    segment.unmap()


def test_a_reader_beside_a_writer_sees_a_beginning_and_no_damage(tmp_path: Path) -> None:
    """Thousands of looks while another thread writes: always the next lines, never a torn one."""
    segment = Segment(tmp_path, 1, 1 << 20, 5_000)
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
    segment.unmap()


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_change_of_bytes_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever a disk does to either file, each line that is read was written, under its number."""
    segment = made(tmp_path_factory.mktemp("segment"), range(1, 9))
    used = HEADER_BYTES + 8 * ENTRY.size
    for _ in range(data.draw(st.integers(1, 6))):
        content = data.draw(st.sampled_from((segment._index, segment._lines)))
        size = used if content is segment._index else segment.used
        at = data.draw(st.integers(0, size - 1))
        content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    with SegmentReader(segment.path) as reader:
        try:
            found = list(reader.more())
        except SegmentError:
            found = []
    for seq, text in found:
        assert not text or text == line(seq)
    segment.unmap()
