"""Files that stay open: never written or closed once their number means another file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynctrack._spool import descriptor
from asynctrack._spool.descriptor import Descriptor, open_new
from asynctrack._spool.folder import SpoolBusyError, WriterFolder
from asynctrack._spool.layout import is_alive, writer_folder
from asynctrack._spool.segment import Segment, Shape
from tests.spool.test_segment import LINES, WRITER


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Descriptor]:
    """A descriptor for a file of 100 bytes."""
    made = open_new(tmp_path / "ours", 100)
    yield made
    made.close()


def take(number: int, path: Path, content: bytes = b"mine") -> int:
    """Close a descriptor as a daemon does, and have a file of the program's at its number."""
    os.close(number)
    path.write_bytes(content)
    other = os.open(path, os.O_RDWR)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    return number


def test_it_reads_and_writes_at_a_place(ours: Descriptor, tmp_path: Path) -> None:
    """What is written is there, also past the end; a read ends where the file does."""
    ours.write_at(b"abc", 10)
    ours.write_at(b"end", 200)
    assert ours.ours
    assert ours.read_at(5, 9) == b"\0abc\0"
    assert ours.read_at(1000, 200) == b"end"
    assert ours.read_at(10, 500) == b""
    assert (tmp_path / "ours").stat().st_size == 203


def test_without_pwrite_it_seeks_and_puts_the_mark_back(
    ours: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has neither pwrite nor pread: the same, one call after the other."""
    monkeypatch.setattr(descriptor, "_write_at", descriptor._seek_and_write)
    monkeypatch.setattr(descriptor, "_read_at", descriptor._seek_and_read)
    ours.write_at(b"abc", 10)
    assert ours.ours and ours.read_at(5, 9) == b"\0abc\0" and ours.ours


@pytest.mark.parametrize("kind", ["another file", "the same file", "a pipe", "nothing"])
def test_a_number_that_means_something_else_is_left_alone(
    ours: Descriptor, tmp_path: Path, kind: str
) -> None:
    """Nothing is written to it, read from it, or closed; the caller is told."""
    number = ours.number
    ends: tuple[int, ...] = ()
    if kind == "another file":
        take(number, tmp_path / "other")
    elif kind == "the same file":
        again = os.open(tmp_path / "ours", os.O_RDONLY)
        os.dup2(again, number)
        os.close(again)
    elif kind == "a pipe":
        ends = os.pipe()
        os.dup2(ends[1], number)
    else:
        os.close(number)
    assert not ours.ours
    for call in (lambda: ours.write_at(b"a prompt", 0), lambda: ours.read_at(1, 0), ours.check):
        with pytest.raises(OSError, match=r"Bad file descriptor|closed by others|Illegal seek"):
            call()
    ours.close()
    if kind != "nothing":
        os.fstat(number)  # still open
        os.close(number)
    for end in ends:
        os.close(end)
    if kind == "another file":
        assert (tmp_path / "other").read_bytes() == b"mine"


def test_closing_twice_closes_nothing_of_others(ours: Descriptor, tmp_path: Path) -> None:
    """The number may mean a file of the program's by then."""
    number = ours.number
    ours.close()
    other = os.open(tmp_path / "ours", os.O_RDONLY)
    assert other == number
    ours.close()
    os.fstat(other)
    os.close(other)


def test_the_random_numbers_of_the_program_are_its_own(tmp_path: Path) -> None:
    """Who has seeded them gets the same ones with a tracker as without."""
    import random

    random.seed(1)
    before = random.getstate()
    open_new(tmp_path / "one", 10).close()
    assert random.getstate() == before


def test_a_segment_whose_descriptor_was_taken(tmp_path: Path) -> None:
    """The line is refused, the stranger's file stays as it is, and the lines are read by name."""
    segment = Segment(tmp_path, 1, Shape(4096, 40))
    segment.begin(WRITER, 7)
    for one in LINES[:3]:
        assert segment.append(one)
    number = take(segment._file.number, tmp_path / "other")
    assert not segment.append(LINES[3]) and "closed by others" in str(segment.failed)
    assert not segment.held
    segment.sync()
    assert segment.content() == b"".join(LINES[:3])
    segment.seal()
    segment.trim()
    segment.remove()
    assert os.pread(number, 10, 0) == b"mine"
    os.close(number)
    assert (tmp_path / "other").read_bytes() == b"mine"


def test_a_folder_whose_lock_was_taken_is_not_deleted(tmp_path: Path) -> None:
    """Somebody else may own it by now: it is left as it is, and so is the stranger's file."""
    path = writer_folder(tmp_path, WRITER)
    folder = WriterFolder(path)
    assert folder.owned and is_alive(path)
    number = take(folder._lock.number, tmp_path / "other")
    assert not folder.owned and not is_alive(path)
    with WriterFolder(path) as next_one:
        folder.close()
        assert next_one.owned and path.is_dir()
        with pytest.raises(SpoolBusyError):
            WriterFolder(path)
    os.fstat(number)
    os.close(number)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_child_of_a_fork_has_none_of_them(tmp_path: Path) -> None:
    """Neither segments nor locks are open in it; the parent keeps both."""
    assert sys.platform != "win32"
    folder = WriterFolder(writer_folder(tmp_path, WRITER))
    segment = folder.new_segment(Shape(4096, 40))
    segment.begin(WRITER, 7)
    assert segment.append(LINES[0])
    child = os.fork()
    if not child:
        left = [
            number
            for number in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{number}")
            and os.readlink(f"/proc/self/fd/{number}").startswith(str(tmp_path))
        ]
        took = segment.append(LINES[1])
        folder.close()  # nor does it delete anything
        os._exit(len(left) + 10 * took)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert folder.owned and is_alive(folder.path)
    assert segment.append(LINES[1]) and segment.content() == b"".join(LINES[:2])
    segment.remove()
    folder.close()
