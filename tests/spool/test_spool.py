"""The spool's folders: one owner each, private, and nothing deleted that is worth keeping."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from asynctrack._common.artifact import Batch
from asynctrack._spool.folder import (
    SpoolBusyError,
    WriterFolder,
    bury,
    set_aside,
)
from asynctrack._spool.layout import (
    read_description,
    waiting_segments,
    writer_folder,
    writers,
)
from asynctrack._spool.segment import Shape
from asynctrack._spool.usage import folder_size
from tests.spool.test_segment import WRITER, line
from tests.support.descriptors import open_below

OTHER = "0" * 24


def used_segment(folder: WriterFolder, text: str = "a") -> Path:
    """A segment with one line in it, as a killed writer leaves it."""
    segment = folder.new_segment(Shape(4096, 10))
    segment.begin(folder.path.name, 1)
    segment.append(line(1, text))
    segment.let_go()
    return segment.path


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    """0700 and 0600, whatever the umask, also for what is written beside the events."""
    before = os.umask(0)
    try:
        with WriterFolder(writer_folder(tmp_path / "deep" / "spool", WRITER)) as folder:
            folder.describe({"run": "r"})
            used_segment(folder)
            bury(folder.path, Batch(WRITER, 1, 1, line(1)), "why")
    finally:
        os.umask(before)
    made = list((tmp_path / "deep" / "spool").rglob("*"))
    assert {path.name for path in made} > {"lock", "writer.json", "00000001.open", "v1", WRITER}
    for path in (tmp_path / "deep" / "spool", *made):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """The lock holds within a process as well, and is free again after close."""
    path = writer_folder(tmp_path, WRITER)
    with WriterFolder(path) as folder:
        used_segment(folder)
        with pytest.raises(SpoolBusyError):
            WriterFolder(path)
        assert list(orphans(tmp_path)) == []
    found = list(orphans(tmp_path))
    assert [one.path for one in found] == [path]
    found[0].close()
    found[0].close()  # again, harmlessly
    assert [one.path for one in orphans(tmp_path, skip=WRITER)] == []


def _hold(path: Path, ready: multiprocessing.connection.Connection) -> None:
    folder = WriterFolder(path)
    used_segment(folder)
    ready.send("locked")
    threading.Event().wait()


def orphans(spool_dir: Path, skip: str = "") -> Iterator[WriterFolder]:
    """Take over the folders of writers that have died, as a replay does."""
    for path in writers(spool_dir):
        if path.name != skip:
            with suppress(SpoolBusyError, OSError):
                yield WriterFolder(path, make=False)


def test_the_lock_of_a_killed_process_is_given_back(tmp_path: Path) -> None:
    """While it lives nobody gets the folder, however they try; after SIGKILL the next one does."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    path = writer_folder(tmp_path, WRITER)
    process = context.Process(target=_hold, args=(path, there))
    process.start()
    try:
        assert here.recv() == "locked"
        with pytest.raises(SpoolBusyError):
            WriterFolder(path)
        assert list(orphans(tmp_path)) == []
        assert folder_size(path) > 4096
    finally:
        process.kill()
        process.join()
        here.close()
        there.close()
    with WriterFolder(path) as folder:
        assert [one.name for one in folder.segments()] == ["00000001.open"]


def test_a_program_that_is_started_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A child process that outlives its parent does not keep the parent's events from a replay."""
    path = writer_folder(tmp_path, WRITER)
    folder = WriterFolder(path)
    used_segment(folder)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    try:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        folder.close()
        WriterFolder(path).close()
    finally:
        child.communicate()


def test_an_empty_folder_goes_with_its_owner(tmp_path: Path) -> None:
    """What was delivered leaves nothing behind but the folder of the spool."""
    with WriterFolder(writer_folder(tmp_path, WRITER)) as folder:
        folder.describe({"run": "r"})
        segment = folder.new_segment(Shape(4096, 10))
        segment.remove()
    assert list(tmp_path.iterdir()) == [tmp_path / "v1"]
    assert writers(tmp_path) == []


@pytest.mark.parametrize("ending", [".open", ".sealed", ".dead", ".damaged", ".of-a-newer-version"])
def test_a_folder_with_anything_worth_keeping_stays(tmp_path: Path, ending: str) -> None:
    """Lines that wait, dead letters, damaged segments and unknown files are never deleted."""
    with WriterFolder(writer_folder(tmp_path, WRITER)) as folder:
        path = used_segment(folder)
        if ending != ".open":
            path = set_aside(path, ending)
        before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
    assert {file.name: file.read_bytes() for file in folder.path.iterdir()} == before
    assert path.name in before


def test_looking_for_orphans_makes_nothing(tmp_path: Path) -> None:
    """A spool that is not there, or a folder that vanishes meanwhile, is no error and not made."""
    assert list(orphans(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()
    for name in (WRITER, OTHER):
        with WriterFolder(writer_folder(tmp_path, name)) as folder:
            used_segment(folder)
    found = orphans(tmp_path)
    with next(found) as first:
        assert first.path.name == OTHER
    shutil.rmtree(writer_folder(tmp_path, WRITER))
    assert list(found) == []
    assert [path.name for path in writers(tmp_path)] == [OTHER]


def test_segments_are_numbered_on(tmp_path: Path) -> None:
    """A folder that is taken over, or made anew, never uses a number again."""
    path = writer_folder(tmp_path, WRITER)
    with WriterFolder(path) as folder:
        assert used_segment(folder).name == "00000001.open"
        set_aside(used_segment(folder), ".damaged")
    with WriterFolder(path) as folder:
        assert folder.last_ordinal == 2
        assert used_segment(folder).name == "00000003.open"
        assert [one.stem for one in waiting_segments(path)] == ["00000001", "00000003"]
    shutil.rmtree(path)
    with WriterFolder(path, after=folder.last_ordinal) as folder:
        assert used_segment(folder).name == "00000004.open"


def test_a_description_is_read_back(tmp_path: Path) -> None:
    """Where the events belong can be told by anybody who finds the folder."""
    with WriterFolder(writer_folder(tmp_path, WRITER)) as folder:
        assert folder.description() == {}
        folder.describe({"run": "one"})
        folder.describe({"run": "two", "destination": {"kind": "folder"}}, sync=True)
        wanted = {"format": 3, "run": "two", "destination": {"kind": "folder"}}
        assert folder.description() == wanted
        assert not (folder.path / "writer.json.tmp").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000, b'{"a":' * 50_000, b" " * (2 << 20)],
    ids=["empty", "cut", "a list", "not text", "null", "deep", "deep objects", "huge"],
)
def test_a_description_that_makes_no_sense_is_empty(tmp_path: Path, content: bytes) -> None:
    """Whatever is in the file, it is never an error that stops a replay of others."""
    (tmp_path / "writer.json").write_bytes(content)
    assert read_description(tmp_path) == {}


def test_a_file_system_without_locks_is_no_living_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be locked is an error of the disk, and not taken for somebody else's."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        WriterFolder(writer_folder(tmp_path, WRITER))
    assert open_below(tmp_path) == []


def test_dead_letters_keep_lines_and_reason(tmp_path: Path) -> None:
    """The lines as they are, the reason beside them, whatever characters are in it."""
    bury(tmp_path, Batch(WRITER, 3, 4, line(3) + line(4)), "too large \ud800 é")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["000000000003-000000000004.dead", "000000000003-000000000004.reason"]
    assert (tmp_path / names[0]).read_bytes() == line(3) + line(4)
    assert (tmp_path / names[1]).read_text() == "too large \\ud800 é"


def test_a_forked_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """Neither the own lock nor that of a writer being replayed lives on in a child."""
    path = writer_folder(tmp_path, WRITER)
    folder = WriterFolder(path)
    used_segment(folder)
    reading, writing = os.pipe()
    hearing, saying = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # not this process
        try:
            folder.close()  # nothing of it is this process's any more
            os.write(saying, b"x")
            os.read(reading, 1)
        finally:
            os._exit(0)
    try:
        os.read(hearing, 1)
        with pytest.raises(SpoolBusyError):
            WriterFolder(path)
        folder.close()
        WriterFolder(path).close()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)
        for descriptor in (reading, writing, hearing, saying):
            os.close(descriptor)
