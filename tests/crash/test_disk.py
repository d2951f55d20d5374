"""Disks that are full, fail, are read-only or taken away: the application goes on, all adds up."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import Statistics, tracker
from asynctrack._spool.keeper import HELD_PIECES
from asynctrack._spool.layout import writers
from tests.e2e.waiting import Wall, until_in_thread
from tests.support.auditor import audit_folder
from tests.support.descriptors import open_below
from tests.support.scale import SCALE

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(autouse=True)
def nothing_kept_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """These disks are smaller than what is left to others."""
    monkeypatch.setattr("asynctrack._spool.homes.KEEP_FREE", 0)


@pytest.fixture(autouse=True)
def retried_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynctrack._engine.stages.RETRY", 0.02)


class Disk:
    """A disk of a few MiB: a file system in memory, mounted for the test."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        path.mkdir()
        self._do("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))

    def fill(self) -> None:
        """Take all the space there is."""
        with (self.path / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(64 * KIB))
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def mode(self, mode: str) -> None:
        """``ro`` or ``rw``."""
        self._do("mount", "-o", f"remount,{mode}", str(self.path))

    def unmount(self) -> None:
        if self.path.is_mount():
            self._do("umount", "--lazy", str(self.path))

    @staticmethod
    def _do(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 6 MiB. Needs the right to mount: containers of CI often have it, users do not."""
    try:
        small = Disk(tmp_path / "disk", 6 * MIB)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system of the test's own: {error}")
    yield small
    small.unmount()


def put(handler: Any, count: int = 1, size: int = 10) -> None:
    for _ in range(count):
        one = uuid.uuid4()
        handler.on_chain_end(f"{one}"[:size].ljust(size, "x"), run_id=one)  # none shares another's
        assert handler.statistics().balanced


def remove(folder: Path) -> None:
    """Delete a folder in which files are made meanwhile: with one move, and then at leisure."""
    aside = folder.with_name(f"{folder.name}-removed")
    folder.rename(aside)
    shutil.rmtree(aside)


def warnings(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    texts = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    return [text for text in texts if word in text]


def problems(folder: Path) -> list[str]:
    """What the auditor finds, but for spans: these tests call single callbacks."""
    return [text for text in audit_folder(folder).problems if "the span " not in text]


def settled(handler: Any, count: int) -> Callable[[], bool]:
    def check() -> bool:
        now: Statistics = handler.statistics()
        assert now.balanced
        return now.delivered + now.dead_lettered == count

    return check


TIMES = (1, 2, 3, 7) if not SCALE else (*range(1, 20), 50, 100, 200, 500)
"""The k of the k-th call, from which on calls fail."""
SMALL: dict[str, Any] = {"max_batch_bytes": 256 * KIB, "max_delay": 0.05}


def test_a_full_disk_at_the_start(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Events wait in memory, with one warning; with space, they go to disk; all are delivered."""
    disk.fill()
    wall = Wall(tmp_path)
    with tracker(wall.folder, spool_dir=str(disk.path / "spool"), **SMALL) as handler:
        put(handler, 20)
        assert handler.statistics().pending == 20 and handler.statistics().spooled == 0
        disk.free()
        until_in_thread(lambda: handler.statistics().spooled == 20)
        put(handler, 5)
        assert handler.statistics().spooled == 25
        wall.mend()
        until_in_thread(settled(handler, 25))
    assert len(warnings(caplog, "cannot write to its spool")) == 1
    assert "No space left on device" in caplog.text and "dropped and counted" in caplog.text
    assert problems(tmp_path / "wall") == [] and handler.statistics().delivered == 25
    assert list((disk.path / "spool" / "v1").iterdir()) == []


def test_a_disk_that_fills_while_tracking(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On to memory, on to its bound, then dropped and counted; no accepted event is lost."""
    wall = Wall(tmp_path)
    options = {**SMALL, "max_buffer_bytes": MIB, "spool_dir": str(disk.path / "spool")}
    with tracker(wall.folder, **options) as handler:
        until_in_thread(lambda: writers(disk.path / "spool"))
        rounds = 0
        while not handler.statistics().dropped:
            put(handler, 10, 10 * KIB)
            # Not faster than a disk that takes them: that bound is another one.
            until_in_thread(
                lambda: (
                    not handler.statistics().pending
                    or warnings(caplog, "cannot write to its spool")
                )
            )
            rounds += 1
            assert rounds < 5000, "the bound never came"
        full = handler.statistics()
        assert full.dropped == {"buffer_full": full.dropped["buffer_full"]}
        assert full.spooled > 2 * MIB / (10 * KIB), "most of the disk is used"
        assert full.pending * 10 * KIB <= MIB
        wall.mend()
        until_in_thread(settled(handler, full.accepted))
        put(handler, 20)
        assert handler.flush()
    end = handler.statistics()
    assert end.delivered == end.accepted == full.accepted + 20
    assert problems(tmp_path / "wall") == []
    assert audit_folder(tmp_path / "wall").events == end.accepted
    assert len(warnings(caplog, "cannot write to its spool")) == 1
    assert len(warnings(caplog, "dropped an event")) == 1


def test_a_file_cut_by_others_on_a_disk_that_they_fill(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Writing on needs room that was taken from it: events wait in memory, none kills anybody."""
    wall = Wall(tmp_path)
    with tracker(wall.folder, spool_dir=str(disk.path / "spool"), **SMALL) as handler:
        put(handler, 20, 10 * KIB)
        until_in_thread(lambda: handler.statistics().spooled == 20)
        for file in (disk.path / "spool").rglob("0*.open"):
            os.truncate(file, 0)
        disk.fill()
        put(handler, 20, 10 * KIB)
        # Whoever claims more of the disk meets it first, or whoever writes.
        words = ("could not go on writing", "cannot write to its spool")
        until_in_thread(lambda: any(warnings(caplog, one) for one in words))
        disk.free()
        until_in_thread(lambda: handler.statistics().pending == 0)
        wall.mend()
        until_in_thread(settled(handler, 40))
    assert handler.statistics().dead_lettered == 20
    assert audit_folder(tmp_path / "wall").events == 20
    assert len(warnings(caplog, "are lost")) == 1


@pytest.mark.parametrize("before", [0, 5, 25])
def test_a_disk_that_is_taken_away(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    """Its mount is gone: what was open is still read, and what comes goes to where it was."""
    wall = Wall(tmp_path)
    options = {**SMALL, "max_batch_events": 10}
    with tracker(wall.folder, spool_dir=str(disk.path / "spool"), **options) as handler:
        put(handler, before)
        until_in_thread(lambda: handler.statistics().pending == 0)
        disk.unmount()
        put(handler, 25)
        until_in_thread(lambda: handler.statistics().pending == 0)
        wall.mend()
        until_in_thread(settled(handler, before + 25))
    assert handler.statistics().delivered == before + 25
    assert_exactly_once_without_spans(tmp_path / "wall", before + 25)
    # Which of them is met first is chance: the folder is gone, or a file cannot be made in it.
    assert len(warnings(caplog, f"asynctrack's spool {disk.path}")) == 1 or len(
        warnings(caplog, "cannot write to its spool")
    )


def test_a_read_only_disk(disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Said once; delivered from memory; on disk again when it can be written."""
    disk.mode("ro")
    wall = Wall(tmp_path)
    with tracker(wall.folder, spool_dir=str(disk.path / "spool"), **SMALL) as handler:
        put(handler, 20)
        assert handler.statistics().pending == 20
        disk.mode("rw")
        until_in_thread(lambda: handler.statistics().spooled == 20)
        wall.mend()
        until_in_thread(settled(handler, 20))
    assert "Read-only file system" in caplog.text
    assert len(warnings(caplog, "spool")) == 1
    assert_exactly_once_without_spans(tmp_path / "wall", 20)


def assert_exactly_once_without_spans(folder: Path, events: int) -> None:
    assert problems(folder) == []
    assert audit_folder(folder).events == events


def test_a_folder_removed_while_tracking(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning; nothing lost, as memory still has it; on disk again with the next segment."""
    spool = tmp_path / "spool"
    wall = Wall(tmp_path)
    options = {**SMALL, "max_batch_events": 10}
    with tracker(wall.folder, spool_dir=str(spool), **options) as handler:
        put(handler, 5)
        remove(spool)
        for _ in range(4):
            put(handler, 10)
            until_in_thread(lambda: handler.statistics().pending == 0)
        assert len(writers(spool)) == 1, "made anew"
        wall.mend()
        until_in_thread(settled(handler, 45))
    assert len(warnings(caplog, "was removed while it was in use")) == 1
    assert handler.statistics().delivered == 45
    assert_exactly_once_without_spans(tmp_path / "wall", 45)


def test_what_only_the_removed_folder_had_is_counted_as_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With S3 down for long, files were let go: it is said, counted, and the worker goes on."""
    spool = tmp_path / "spool"
    wall = Wall(tmp_path)
    with tracker(wall.folder, spool_dir=str(spool), max_batch_events=10) as handler:
        for _ in range(20):
            put(handler, 10)
            until_in_thread(lambda: handler.statistics().pending == 0)
        (folder,) = writers(spool)
        # These, the open one, the spare, and the lock.
        until_in_thread(lambda: len(open_below(folder)) <= HELD_PIECES + 3)
        remove(spool)
        wall.mend()
        until_in_thread(settled(handler, 200))
        lost = handler.statistics().dead_lettered
        assert 0 < lost < 200
        put(handler, 10)
        assert not handler.flush(), "not all that was accepted is delivered"
        assert handler.statistics().delivered == 210 - lost
    assert "are lost" in caplog.text and "dead_lettered" in caplog.text
    audit = audit_folder(tmp_path / "wall")
    assert audit.events == 210 - lost
    (writer,) = audit.writers.values()
    assert writer.duplicates == {}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize(
    ("call", "time"),
    [
        *(("posix_fallocate", time) for time in TIMES),
        *(("pwrite", time) for time in TIMES),
        *(("open", time) for time in TIMES),
        *(("unlink", time) for time in TIMES),
        *(("mkdir", time) for time in (1, 2, 3)),
        *(("rename", time) for time in TIMES if time != 7),
        ("replace", 1),
    ],
)
def test_any_call_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, time: int
) -> None:
    """From the k-th time on, for a while: no callback raises, and all is delivered once."""
    spool = tmp_path / "spool"
    calls, rounds = 0, max(4, time)
    original = getattr(os, call)

    def concerns_spool(argument: Any) -> bool:
        if isinstance(argument, int):
            try:
                argument = Path(f"/proc/self/fd/{argument}").readlink()
            except OSError:
                return False
        return str(argument).startswith(str(spool))

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        if concerns_spool(arguments[0]):
            calls += 1
            if time <= calls < time + 3:
                raise OSError(code, os.strerror(code), str(arguments[0]))
        return original(*arguments, **options)

    monkeypatch.setattr(os, call, failing)
    with tracker(
        tmp_path / "out", spool_dir=str(spool), max_batch_events=10, max_delay=0.01
    ) as handler:
        for _ in range(rounds):
            put(handler, 10)
            assert handler.flush()
    monkeypatch.setattr(os, call, original)
    if sys.version_info >= (3, 11):  # pathlib of 3.10 keeps its own references to these
        assert calls >= time, "it never came to that"
    end = handler.statistics()
    assert end.accepted == end.delivered == 10 * rounds and not end.dropped
    assert_exactly_once_without_spans(tmp_path / "out", 10 * rounds)
    # What could not be deleted is replayed: the same objects again.
    with tracker(tmp_path / "own", spool_dir=str(spool)) as other:
        until_in_thread(lambda: {path.name for path in writers(spool)} <= {other_id(other)})
    assert_exactly_once_without_spans(tmp_path / "out", 10 * rounds)


def other_id(handler: Any) -> str:
    return str(handler._sink._buffer._prefix.split(b'"')[5].decode())
