"""A segment of the spool: what it gives back after any damage, and what it never does."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynctrack._segment import Segment, remove_files
from asynctrack._segment_format import (
    FORMAT_VERSION,
    HEADER_BYTES,
    SegmentContent,
    SegmentError,
    read_segment,
)
from tests.support.descriptors import open_below

WRITER = "01a20473057a41aa9a3d6d1a"
FIRST = 7


def line(seq: int, text: str = "") -> bytes:
    """A line as the buffer makes them."""
    return b'{"v":1,"writer_id":"%s","seq":%d,"text":"%s"}\n' % (
        WRITER.encode(),
        seq,
        text.encode(),
    )


def written(folder: Path, lines: list[bytes], *, trim: bool = True, capacity: int = 4096) -> Path:
    """Write a segment, and leave it as a killed writer does, or as one that ended."""
    segment = Segment(folder, 1, capacity, 40)
    segment.begin(WRITER, FIRST)
    for one in lines:
        assert segment.append(one)
    if trim:
        segment.trim()
    else:
        segment.unmap()
    return segment.path


LINES = [line(FIRST + number, "x" * number) for number in range(5)]
EXPECTED = tuple((FIRST + number, one) for number, one in enumerate(LINES))


def check_damaged(path: Path, lost_at_most: int) -> SegmentContent | None:
    """Read a segment with damage in it: never a bad record, never more lost than was hit."""
    try:
        content = read_segment(path)
    except SegmentError:
        return None
    assert set(content.lines) <= set(EXPECTED), "a bad record"
    assert list(content.lines) == sorted(content.lines)
    lost = {seq for seq, _ in EXPECTED} - {seq for seq, _ in content.lines}
    assert len(lost) <= lost_at_most
    assert content.writer_id == WRITER and content.first_seq == FIRST
    return content


@contextlib.contextmanager
def flipped(file: Path, whole: bytes, bit: int) -> Iterator[None]:
    """Flip one bit in place: writing the file anew each time would wait for the disk."""
    place = bit // 8
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes([whole[place] ^ 1 << bit % 8]), place)
        yield
        os.pwrite(descriptor, whole[place : place + 1], place)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])
def test_what_was_appended_is_read_back(tmp_path: Path, trim: bool) -> None:
    """All lines, in order, with their numbers; none is damaged, however the writer ended."""
    path = written(tmp_path, LINES, trim=trim)
    assert read_segment(path) == SegmentContent(WRITER, FIRST, EXPECTED, ())
    assert path.stat().st_size == (len(b"".join(LINES)) if trim else 4096)


def test_the_lines_are_plain_ndjson(tmp_path: Path) -> None:
    """The file of a writer that ended is the artifact before compression, byte for byte."""
    assert written(tmp_path, LINES).read_bytes() == b"".join(LINES)


def test_a_full_segment_says_so(tmp_path: Path) -> None:
    """There is room up to the last byte and the last entry, and not beyond."""
    segment = Segment(tmp_path, 1, 100, 2)
    segment.begin(WRITER, 1)
    assert not segment.append(b"a" * 101)
    assert segment.append(b"a" * 49 + b"\n")
    assert not segment.append(b"b" * 51)
    assert segment.append(b"b" * 49 + b"\n")
    assert not segment.append(b"")
    assert segment.content() == b"a" * 49 + b"\n" + b"b" * 49 + b"\n"
    segment.remove()
    assert list(tmp_path.iterdir()) == []


def test_content_is_the_same_from_memory_and_from_disk(tmp_path: Path) -> None:
    """A segment that was unmapped to save memory is uploaded from its file, also once sealed."""
    segment = Segment(tmp_path, 1, 4096, 40)
    segment.begin(WRITER, FIRST)
    for one in LINES:
        segment.append(one)
    mapped = segment.content()
    segment.seal()
    segment.unmap()
    assert not segment.mapped
    assert segment.content() == mapped == b"".join(LINES)
    assert segment.path.name == "00000001.sealed"
    segment.unmap()  # again, harmlessly


def test_files_are_the_users_own(tmp_path: Path) -> None:
    """Prompts are nobody else's business: both files have the mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        path = written(tmp_path, LINES)
    finally:
        os.umask(before)
    for file in (path, path.with_suffix(".idx")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_segment_never_replaces_another(tmp_path: Path) -> None:
    """A number that is in use is refused, and what is there stays, whichever file is there."""
    path = written(tmp_path, LINES)
    for kept, other in ((path, path.with_suffix(".idx")), (path.with_suffix(".idx"), path)):
        before = kept.read_bytes()
        content = other.read_bytes()
        other.unlink()
        with pytest.raises(FileExistsError):
            Segment(tmp_path, 1, 4096, 40)
        assert kept.read_bytes() == before
        assert not other.exists()
        other.write_bytes(content)


def test_a_spare_that_was_never_used_is_empty(tmp_path: Path) -> None:
    """A writer killed before its first event leaves a segment with nothing in it."""
    segment = Segment(tmp_path, 1, 4096, 40)
    segment.unmap()
    assert read_segment(segment.path) == SegmentContent("", 0, (), ())


def test_lines_without_an_index_are_not_taken_for_a_spare(tmp_path: Path) -> None:
    """An index of zeros beside lines is damage, which is named, and nothing to delete."""
    path = written(tmp_path, LINES)
    index = path.with_suffix(".idx")
    for zeros in (b"", bytes(10), bytes(index.stat().st_size)):
        index.write_bytes(zeros)
        with pytest.raises(SegmentError, match="its index is empty"):
            read_segment(path)
    index.unlink()
    with pytest.raises(FileNotFoundError):
        read_segment(path)


@pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])
@pytest.mark.parametrize("which", ["lines", "index"])
def test_truncated_at_every_byte(tmp_path: Path, which: str, trim: bool) -> None:
    """A file cut short costs the records behind the cut, or is named; never more, never junk."""
    path = written(tmp_path, LINES, trim=trim)
    file = path if which == "lines" else path.with_suffix(".idx")
    whole = file.read_bytes()
    ends = list(itertools.accumulate(map(len, LINES)))
    for size in reversed(range(len(whole))):
        os.truncate(file, size)
        if which == "lines":
            intact = sum(end <= size for end in ends)
        else:
            intact = min(len(LINES), max(0, size - HEADER_BYTES) // 12)
        content = check_damaged(path, len(LINES) - intact)
        if content is None:
            assert intact == 0 and size < len(whole)
            continue
        assert len(content.lines) == intact
        if which == "lines":  # the index still says what there was
            assert content.damaged == tuple(FIRST + n for n in range(intact, len(LINES)))


@pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])
@pytest.mark.parametrize("which", ["lines", "index"])
def test_every_bit_flipped(tmp_path: Path, which: str, trim: bool) -> None:
    """One flipped bit costs the one record it is in, which is named, and none in the header."""
    path = written(tmp_path, LINES, trim=trim, capacity=1024)
    file = path if which == "lines" else path.with_suffix(".idx")
    whole = file.read_bytes()
    used = len(b"".join(LINES)) if which == "lines" else HEADER_BYTES + 12 * len(LINES)
    for bit in range(len(whole) * 8):
        with flipped(file, whole, bit):
            content = check_damaged(path, 1)
        assert content is not None, f"bit {bit} made all of it unreadable"
        hit = bit // 8 < used and (which == "lines" or bit // 8 >= HEADER_BYTES)
        assert len(content.damaged) == hit, f"bit {bit}"
        assert len(content.lines) + len(content.damaged) == len(LINES)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), sector=st.sampled_from([512, 4096]))
def test_torn_writes(tmp_path: Path, data: st.DataObject, sector: int) -> None:
    """Power loss: of what was written since the last sync, any subset of sectors is on disk.

    What was there at the sync is read back in full, and nothing is read that was not written.
    """
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    count = data.draw(st.integers(1, 400), "lines")
    synced = data.draw(st.integers(0, count), "synced")
    size = data.draw(st.integers(0, 200), "size")
    lines = [line(FIRST + number, "y" * (number * size % 211)) for number in range(count)]
    segment = Segment(folder, 1, 128 * 1024, 500)
    index = segment.index_path
    segment.begin(WRITER, FIRST)
    for one in lines[:synced]:
        segment.append(one)
    before = {file: file.read_bytes() for file in (segment.path, index)}
    if not synced and data.draw(st.booleans(), "not even the header"):
        before[index] = bytes(len(before[index]))
    for one in lines[synced:]:
        segment.append(one)
    after = {file: file.read_bytes() for file in before}
    segment.unmap()
    seed = data.draw(st.randoms(use_true_random=False), "sectors")
    for file, old in before.items():
        new = after[file]
        places = [
            at
            for at in range(0, len(new), sector)
            if new[at : at + sector] != old[at : at + sector]
        ]
        with file.open("r+b") as disk:
            for at in places:
                if seed.random() < 0.5:
                    disk.seek(at)
                    disk.write(old[at : at + sector])
    try:
        content = read_segment(segment.path)
    except SegmentError:
        assert not synced
        return
    expected = dict(enumerate(lines, FIRST))
    found = dict(content.lines)
    assert found.items() <= expected.items()
    assert all(expected[seq] == found.get(seq) for seq in range(FIRST, FIRST + synced))
    assert not set(content.damaged) & set(range(FIRST, FIRST + synced))


def test_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    """What a newer version wrote is not guessed at: it says so, and both files stay."""
    path = written(tmp_path, LINES)
    index = path.with_suffix(".idx")
    content = bytearray(index.read_bytes())
    struct.pack_into("<H", content, 8, FORMAT_VERSION + 1)
    struct.pack_into("<I", content, 56, zlib.crc32(content[:56]))
    index.write_bytes(content)
    before = {file: file.read_bytes() for file in (path, index)}
    with pytest.raises(SegmentError, match=f"newer version .format {FORMAT_VERSION + 1}"):
        read_segment(path)
    assert {file: file.read_bytes() for file in before} == before


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    """Files that are not ours raise SegmentError, whatever is in them."""
    path = tmp_path / "00000001.open"
    for index, lines in (
        (b"#!/bin/sh\n", b"echo\n"),
        (os.urandom(1000), os.urandom(1000)),
        (b"ATSPOOL\n" + bytes(200), b"{}\n"),
        (b"\xff" * 500, b"\xff" * 500),
    ):
        path.write_bytes(lines)
        path.with_suffix(".idx").write_bytes(index)
        with pytest.raises(SegmentError):
            read_segment(path)


def test_a_header_cannot_name_another_folder(tmp_path: Path) -> None:
    """A writer's id that could lead out of the folder of the Run is no writer's id."""
    path = written(tmp_path, [b'{"x":1}\n'])
    index = path.with_suffix(".idx")
    content = bytearray(index.read_bytes())
    struct.pack_into("<32s", content, 24, b"../../../../etc/cron.d/x")
    struct.pack_into("<I", content, 56, zlib.crc32(content[:56]))
    index.write_bytes(content)
    with pytest.raises(SegmentError, match="not an index"):
        read_segment(path)


def test_a_sync_that_failed_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have dropped the pages and would report success: the failure stands."""
    segment = Segment(tmp_path, 1, 4096, 40)
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("asynctrack._segment._sync", fail)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            segment.sync()
    assert len(calls) == 1
    segment.remove()


def test_a_sync_reaches_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines first, then the index that vouches for them; nothing once the files are let go."""
    synced: list[Path] = []
    monkeypatch.setattr(
        "asynctrack._segment._sync",
        lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()),
    )
    segment = Segment(tmp_path, 1, 4096, 40)
    segment.sync()
    assert synced == [segment.path, segment.index_path]
    segment.unmap()
    segment.sync()
    assert len(synced) == 2


def test_no_file_stays_open(tmp_path: Path) -> None:
    """Neither a segment that was let go nor one that could not be made keeps a descriptor."""
    for number in range(5):
        segment = Segment(tmp_path, number, 4096, 40)
        segment.begin(WRITER, 1)
        segment.trim()
        with pytest.raises(FileExistsError):
            Segment(tmp_path, number, 4096, 40)
        segment.remove()
    assert open_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_where_blocks_cannot_be_allocated_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems know no fallocate: the blocks are claimed all the same."""

    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    path = written(tmp_path, LINES, trim=False, capacity=3_000_001)
    assert path.stat().st_size == 3_000_001
    assert path.stat().st_blocks * 512 >= 3_000_001
    assert read_segment(path).lines == EXPECTED


def test_a_disk_that_refuses_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space for the second file takes the first one away as well."""
    calls = itertools.count(1)

    def allocate(descriptor: int, offset: int, size: int) -> None:
        if next(calls) % 2 == 0:
            raise OSError(28, "No space left on device")
        os.truncate(descriptor, size)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            Segment(tmp_path, 1, 4096, 40)
        assert list(tmp_path.iterdir()) == []


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    """Somebody who cleaned up by hand does not disturb."""
    path = written(tmp_path, LINES)
    remove_files(path)
    remove_files(path)
    assert list(tmp_path.iterdir()) == []
