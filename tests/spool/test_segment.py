"""A segment of the spool: what it gives back after any damage, and what it never does."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynctrack._spool.segment import FIRST_CLAIM, Segment, Shape, remove_files
from asynctrack._spool.segment_content import SegmentContent, read_segment
from asynctrack._spool.segment_format import (
    CHECK_BYTES,
    FORMAT_VERSION,
    HEADER_BYTES,
    Header,
    SegmentError,
    make_header,
    make_record,
)
from tests.support.descriptors import open_below
from tests.support.segment_1 import header_1, write_segment_1

WRITER = "01a20473057a41aa9a3d6d1a"
FIRST = 7


def line(seq: int, text: str = "") -> bytes:
    """A line as the buffer makes them."""
    return b'{"v":1,"writer_id":"%s","seq":%d,"text":"%s"}\n' % (
        WRITER.encode(),
        seq,
        text.encode(),
    )


def written(
    folder: Path, lines: list[bytes], *, trim: bool = True, capacity: int = 4096, version: int = 3
) -> Path:
    """Write a segment, and leave it as a killed writer does, or as one that ended."""
    if version == 1:
        path, room = folder / "00000001.open", 0 if trim else capacity
        return write_segment_1(path, WRITER, FIRST, lines, room=room, max_events=0 if trim else 40)
    segment = Segment(folder, 1, Shape(capacity, 40))
    segment.begin(WRITER, FIRST)
    for one in lines:
        assert segment.append(one)
    if trim:
        segment.trim()
    else:
        segment.let_go()
    if version == 2:
        with segment.path.open("r+b") as file:
            file.write(header_2(FIRST, len(lines) if trim else 0))
    return segment.path


def header_2(first_seq: int, events: int) -> bytes:
    """The header of a segment of format 2, which differs in nothing else."""
    text = f"ATSPOOL 2 {WRITER} {first_seq} {events}".encode().ljust(HEADER_BYTES - 9)
    return b"%b%08x\n" % (text, zlib.crc32(text))


LINES = [line(FIRST + number, "x" * number) for number in range(5)]
EXPECTED = tuple((FIRST + number, one) for number, one in enumerate(LINES))
RECORDS = [make_record(number, one) for number, one in enumerate(LINES)]
BYTES = HEADER_BYTES + len(b"".join(RECORDS))
FILES = pytest.mark.parametrize(
    ("version", "ending"),
    [(3, ".open"), (2, ".open"), (1, ".open"), (1, ".idx")],
    ids=["3", "2", "1", "1-index"],
)
ENDS = pytest.mark.parametrize("trim", [True, False], ids=["ended", "killed"])


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
    assert not content.lines or (content.writer_id, content.first_seq) == (WRITER, FIRST)
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


@ENDS
@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_was_appended_is_read_back(tmp_path: Path, trim: bool, version: int) -> None:
    """All lines, in order, with their numbers, of today's format and of those before it."""
    path = written(tmp_path, LINES, trim=trim, version=version)
    assert read_segment(path) == SegmentContent(WRITER, FIRST, EXPECTED, ())
    if version != 1:
        room = HEADER_BYTES + 4096 + 40 * CHECK_BYTES
        assert path.stat().st_size == (BYTES if trim else room)
        assert list(tmp_path.iterdir()) == [path]


def test_the_lines_are_plain_ndjson(tmp_path: Path) -> None:
    """Any tool finds the lines of the artifact in the file, byte for byte, and only whole ones."""
    content = written(tmp_path, LINES).read_bytes()
    lines = content.splitlines(keepends=True)
    assert [one for one in lines if one.startswith(b"{")] == LINES
    assert content.isascii() and len(lines) == 1 + 2 * len(LINES)


def test_a_full_segment_says_so(tmp_path: Path) -> None:
    """There is room up to the last byte and the last entry, and not beyond."""
    segment = Segment(tmp_path, 1, Shape(100, 2))
    segment.begin(WRITER, 1)
    assert not segment.append(b"a" * 101)
    assert segment.append(b"a" * 49 + b"\n")
    assert not segment.append(b"b" * 51)
    assert segment.append(b"b" * 49 + b"\n")
    assert not segment.append(b"")
    assert segment.content() == b"a" * 49 + b"\n" + b"b" * 49 + b"\n"
    segment.remove()
    assert list(tmp_path.iterdir()) == []


def test_content_is_the_same_from_the_open_file_and_by_its_name(tmp_path: Path) -> None:
    """A segment that was let go is uploaded by its name, also once sealed."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.begin(WRITER, FIRST)
    for one in LINES:
        segment.append(one)
    held = segment.content()
    segment.seal()
    segment.let_go()
    assert not segment.held
    assert segment.content() == held == b"".join(LINES)
    assert segment.path.name == "00000001.sealed"
    segment.let_go()  # again, harmlessly


def test_a_removed_file_is_read_as_long_as_it_is_open(tmp_path: Path) -> None:
    """Somebody who deletes the file, or its folder, takes nothing from what waits for upload."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.begin(WRITER, FIRST)
    segment.append(LINES[0])
    segment.path.unlink()
    for one in LINES[1:]:
        assert segment.append(one)
    assert segment.content() == b"".join(LINES)
    segment.save_again()
    assert read_segment(segment.path).lines == EXPECTED
    segment.path.unlink()
    segment.let_go()
    with pytest.raises(FileNotFoundError):
        segment.content()
    assert segment.left() == ()


def test_lines_written_at_once_are_those_written_one_by_one(tmp_path: Path) -> None:
    """What moves from memory to disk in one write makes the same file, and goes on alike."""
    contents = []
    for folder in (tmp_path / "one", tmp_path / "all"):
        folder.mkdir()
        segment = Segment(folder, 1, Shape(4096, 40))
        segment.begin(WRITER, FIRST)
        if folder.name == "all":
            segment.fill(LINES[:3])
        else:
            assert all(map(segment.append, LINES[:3]))
        assert all(map(segment.append, LINES[3:]))
        assert (segment.events, segment.used) == (5, len(b"".join(LINES)))
        contents.append(segment.path.read_bytes())
        segment.remove()
    assert contents[0] == contents[1]


@pytest.mark.parametrize("cut", range(0, BYTES, 7))
@pytest.mark.parametrize("held", [True, False])
def test_a_file_cut_by_others_loses_only_what_was_cut(tmp_path: Path, cut: int, held: bool) -> None:
    """The writer goes on behind the hole; every whole line is still there, the others are known."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.begin(WRITER, FIRST)
    for one in LINES[:3]:
        assert segment.append(one)
    os.truncate(segment.path, cut)
    for one in LINES[3:]:
        assert segment.append(one)
    if not held:
        segment.seal()
        segment.let_go()
    ends = list(itertools.accumulate(map(len, RECORDS), initial=HEADER_BYTES))[1:]
    expected = tuple(
        one for one, end in zip(EXPECTED, ends, strict=True) if end <= cut or one[0] >= FIRST + 3
    )
    if cut >= ends[2] - CHECK_BYTES:  # the lines are whole
        assert segment.content() == b"".join(LINES)
    else:
        with pytest.raises(OSError, match="cut short or damaged by others"):
            segment.content()
    assert segment.left() == expected
    content = read_segment(segment.path)  # a replay, after a crash
    assert content.lines == expected
    assert content.damaged == tuple(
        seq for seq, _ in EXPECTED if (seq, LINES[seq - FIRST]) not in expected
    )
    segment.remove()


def test_a_sealed_file_cut_at_its_end_says_what_it_lost(tmp_path: Path) -> None:
    """What is complete knows how many lines it had: those that are gone are named."""
    path = written(tmp_path, LINES)
    os.truncate(path, BYTES - len(RECORDS[-1]) - len(RECORDS[-2]) - 1)
    content = read_segment(path)
    assert content.lines == EXPECTED[:2]
    assert content.damaged == (FIRST + 2, FIRST + 3, FIRST + 4)


def test_files_are_the_users_own(tmp_path: Path) -> None:
    """Prompts are nobody else's business: the file has the mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        path = written(tmp_path, LINES)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_segment_never_replaces_another(tmp_path: Path) -> None:
    """A number that is in use is refused, and what is there stays."""
    path = written(tmp_path, LINES)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        Segment(tmp_path, 1, Shape(4096, 40))
    assert path.read_bytes() == before


def test_a_spare_that_was_never_used_is_empty(tmp_path: Path) -> None:
    """A writer killed before its first event leaves a segment with nothing in it."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.let_go()
    assert read_segment(segment.path) == SegmentContent("", 0, (), ())
    segment.path.write_bytes(b"")  # killed still before
    assert read_segment(segment.path) == SegmentContent("", 0, (), ())


def test_lines_without_what_vouches_for_them_are_not_taken_for_a_spare(tmp_path: Path) -> None:
    """Lines of either format whose checks are gone are damage, which is named, not to delete."""
    path = written(tmp_path, LINES, version=1)
    index = path.with_suffix(".idx")
    for zeros in (b"", bytes(10), bytes(index.stat().st_size)):
        index.write_bytes(zeros)
        with pytest.raises(SegmentError, match="its index is empty"):
            read_segment(path)
    index.unlink()
    with pytest.raises(SegmentError, match="not a segment of asynctrack's"):
        read_segment(path)


@ENDS
@FILES
def test_truncated_at_every_byte(tmp_path: Path, version: int, ending: str, trim: bool) -> None:
    """A file cut short costs the records behind the cut, or is named; never more, never junk."""
    path = written(tmp_path, LINES, trim=trim, version=version)
    file = path.with_suffix(ending)
    whole = file.read_bytes()
    records, at = RECORDS, HEADER_BYTES
    if version == 1:
        records = LINES if ending == ".open" else [bytes(12)] * len(LINES)
        at = 0 if ending == ".open" else 64
    ends = list(itertools.accumulate(map(len, records), initial=at))[1:]
    for size in reversed(range(len(whole))):
        os.truncate(file, size)
        intact = sum(end <= size for end in ends)
        content = check_damaged(path, len(LINES) - intact)
        if content is None:
            assert intact == 0 and size < len(whole)
            continue
        if not content.writer_id:
            assert size == 0
            continue
        assert len(content.lines) == intact
        if version != 1 and not trim:
            assert content.damaged == (), "a torn end was never written"
        elif (version, ending) != (1, ".idx"):  # it says what there was
            assert content.damaged == tuple(FIRST + n for n in range(intact, len(LINES)))


@ENDS
@FILES
def test_every_bit_flipped(tmp_path: Path, version: int, ending: str, trim: bool) -> None:
    """One flipped bit costs the one record it is in, which is named, and none in the header."""
    path = written(tmp_path, LINES, trim=trim, capacity=1024, version=version)
    file = path.with_suffix(ending)
    whole = file.read_bytes()
    used = range(HEADER_BYTES, BYTES)
    if version == 1:
        used = range(len(b"".join(LINES))) if ending == ".open" else range(64, 64 + 12 * 5)
    for bit in range(len(whole) * 8):
        with flipped(file, whole, bit):
            content = check_damaged(path, 1)
        assert content is not None, f"bit {bit} made all of it unreadable"
        assert len(content.damaged) == (bit // 8 in used), f"bit {bit}"
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
    segment = Segment(folder, 1, Shape(128 * 1024, 500))
    segment.begin(WRITER, FIRST)
    for one in lines[:synced]:
        segment.append(one)
    before = {segment.path: segment.path.read_bytes()}
    for one in lines[synced:]:
        segment.append(one)
    after = {file: file.read_bytes() for file in before}
    segment.let_go()
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
    text = b"ATSPOOL %d and what it likes" % (FORMAT_VERSION + 1)
    text = text.ljust(HEADER_BYTES - 9)
    with path.open("r+b") as file:
        file.write(text + b"%08x\n" % zlib.crc32(text))
    before = path.read_bytes()
    with pytest.raises(SegmentError, match=f"newer version .format {FORMAT_VERSION + 1}"):
        read_segment(path)
    assert path.read_bytes() == before


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    """Files that are not ours raise SegmentError, whatever is in them."""
    path = tmp_path / "00000001.open"
    for index, lines in (
        (b"#!/bin/sh\n", b"echo\n"),
        (os.urandom(1000), os.urandom(1000)),
        (b"ATSPOOL\n" + bytes(200), b"{}\n"),
        (b"\xff" * 500, b"\xff" * 500),
        (None, b"echo\n" * 50),
        (None, os.urandom(1000)),
        (None, b"ATSPOOL 2 ".ljust(200)),
        (None, make_record(0, b"not an event\n") * 9),
        (None, bytes(HEADER_BYTES) + make_record(1 << 31, LINES[0])),
    ):
        path.write_bytes(lines)
        if index is None:
            path.with_suffix(".idx").unlink(missing_ok=True)
        else:
            path.with_suffix(".idx").write_bytes(index)
        with pytest.raises(SegmentError):
            read_segment(path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_cannot_name_another_folder(tmp_path: Path, version: int) -> None:
    """A writer's id that could lead out of the folder of the Run is no writer's id."""
    path = written(tmp_path, [b'{"x":1}\n'], version=version)
    evil = "../../../../etc/cron.d/x"
    if version == 1:
        path.with_suffix(".idx").write_bytes(header_1(evil, FIRST) + bytes(12))
    else:
        with path.open("r+b") as file:
            file.write(make_header(Header(evil, FIRST, 0)))
    with pytest.raises(SegmentError, match="not a segment of asynctrack's"):
        read_segment(path)


def test_a_sync_that_failed_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have dropped the pages and would report success: the failure stands."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("asynctrack._spool.segment._sync", fail)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            segment.sync()
    assert len(calls) == 1
    segment.remove()


def test_a_sync_reaches_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for lines and what vouches for them; none once the file is let go."""
    synced: list[Path] = []
    monkeypatch.setattr(
        "asynctrack._spool.segment._sync",
        lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()),
    )
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.sync()
    assert synced == [segment.path]
    segment.let_go()
    segment.sync()
    assert len(synced) == 1


def test_no_file_stays_open(tmp_path: Path) -> None:
    """Neither a segment that was let go nor one that could not be made keeps a descriptor."""
    for number in range(5):
        segment = Segment(tmp_path, number, Shape(4096, 40))
        segment.begin(WRITER, 1)
        segment.append(LINES[0])
        segment.trim()
        with pytest.raises(FileExistsError):
            Segment(tmp_path, number, Shape(4096, 40))
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
    assert path.stat().st_size == FIRST_CLAIM
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    assert read_segment(path).lines == EXPECTED


def test_a_disk_that_refuses_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space, met at any step of making it, takes the file away as well."""

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("posix_fallocate", "pwrite"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(OSError, match="No space left"):
                Segment(tmp_path, 1, Shape(4096, 40))
        assert list(tmp_path.iterdir()) == []
        assert open_below(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EBADF, 0])
def test_a_write_that_fails_is_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The line is refused, as by a full segment, and none comes after it; the others are there."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.begin(WRITER, FIRST)
    for one in LINES[:3]:
        assert segment.append(one)
    whole, calls = os.pwrite, itertools.count(1)

    def fail(number: int, content: bytes, at: int) -> int:
        if code:
            raise OSError(code, os.strerror(code))
        # A short write, which is gone on with, and then no more room.
        return whole(number, content[:10], at) if next(calls) == 1 else 0

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        assert not segment.append(LINES[3])
    assert segment.failed is not None
    assert not segment.append(LINES[3]) and not segment.has_room(1), "it may be torn at that place"
    assert segment.content() == b"".join(LINES[:3])
    assert read_segment(segment.path) == SegmentContent(WRITER, FIRST, EXPECTED[:3], ())
    segment.remove()


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes ten bytes at a time takes a line as well."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda number, content, at: whole(number, content[:10], at))
    path = written(tmp_path, LINES)
    assert read_segment(path).lines == EXPECTED


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    """Somebody who cleaned up by hand does not disturb."""
    path = written(tmp_path, LINES)
    remove_files(path)
    remove_files(path)
    assert list(tmp_path.iterdir()) == []
