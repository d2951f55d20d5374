"""The spool on disk: a folder for each writer, its lock, and what it says about itself.

Its layout is described in ``layout``. There is no index over all of it that could break:
whoever holds a writer's lock owns its folder, and the operating system gives the lock back however
a process ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from asynctrack._common.artifact import Batch
from asynctrack._spool.descriptor import Descriptor
from asynctrack._spool.layout import (
    INFO,
    LOCK,
    LOCKED,
    SpoolPlace,
    division,
    read_description,
    waiting_segments,
)
from asynctrack._spool.segment import Segment, Shape, remove_files
from asynctrack._spool.segment_format import FORMAT_VERSION

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

UNFINISHED: Final = ".new-"
"""How the names of folders begin that are being made."""
MAKING: Final = 60.0
"""Seconds that making one takes at the most. It takes a millisecond; a younger one is let alone,
as it may not be locked yet."""
_TRIES: Final = 5
_EXPENDABLE: Final = {"", ".idx", ".json", ".parts", ".reason", ".tmp"}
"""Endings of files that may go with a folder. Lines, dead letters, damaged segments and what a
newer version may have left are none of them."""


class SpoolBusyError(Exception):
    """The writer lives, or somebody else replays its events right now."""


class WriterFolder:
    """The folder of one writer, owned: its lock is held until ``close``.

    Args:
        path: The folder.
        make: Whether it is made where there is none: under another name, so that nobody sees it
            before it is locked and says where its events belong.
        info: What ``describe`` writes; None leaves what is there.
        after: The highest number of a segment that was there before and must not come again.
        sync: Whether what is made is to survive the power as well.

    Raises:
        SpoolBusyError: Somebody else holds the lock.
        OSError: The folder cannot be made or used.
    """

    def __init__(
        self,
        path: Path,
        *,
        make: bool = True,
        info: Mapping[str, Any] | None = None,
        after: int = 0,
        sync: bool = False,
    ) -> None:
        self.path = path
        lock = _make(path, info, sync=sync) if make and not path.is_dir() else None
        if lock is None:
            lock = _lock(path / LOCK)
            if lock is None:
                raise SpoolBusyError(f"{path} is in use by a living process")
            self._lock = lock
            if info is not None:
                try:
                    self.describe(info, sync=sync)
                except BaseException:
                    self.close()
                    raise
            after = max(after, *map(_ordinal, path.glob("*.*")), 0)
        self._lock = lock
        self.last_ordinal = after

    def __enter__(self) -> WriterFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def describe(self, info: Mapping[str, Any], *, sync: bool = False) -> None:
        """Write down where the events belong, so that anybody can replay them.

        Args:
            info: Plain data, no secrets.
            sync: Whether it is to survive the power as well.
        """
        _describe(self.path, info, sync=sync)

    def description(self) -> dict[str, Any]:
        """Return what ``describe`` wrote; empty where that is missing or damaged."""
        return read_description(self.path)

    def new_segment(self, shape: Shape) -> Segment:
        """Make a segment ready.

        Raises:
            OSError: No space, no permission, no folder.
        """
        segment = Segment(self.path, self.last_ordinal + 1, shape)
        self.last_ordinal += 1
        return segment

    def segments(self) -> list[Path]:
        """Return the files of lines that wait for delivery, oldest first."""
        return waiting_segments(self.path)

    def close(self) -> None:
        """Give the folder up; delete it when nothing in it is worth keeping."""
        if not self.owned:
            return  # somebody else may have it by now
        try:
            # Texts and not paths: this is done for each tracker.
            top = f"{self.path}{os.sep}"
            files = os.listdir(top)  # noqa: PTH208  # as above
            if all(os.path.splitext(file)[1] in _EXPENDABLE for file in files):  # noqa: PTH122
                # The lock goes last: while it is there and held, nobody takes the folder over.
                for file in sorted(files, key=LOCK.__eq__):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(top + file)  # noqa: PTH108  # as above
                os.rmdir(top)  # noqa: PTH106  # as above
        except OSError:
            pass  # gone already, or read-only: an empty folder does no harm
        self._lock.close()

    @property
    def owned(self) -> bool:
        """Whether its lock is held: not in the child of a fork, nor when others have closed it."""
        return self._lock.ours

    def abandon(self) -> None:
        """Close the lock's file without touching anything: for the child of a fork."""
        self._lock.close()


def make_place(place: SpoolPlace) -> None:
    """Make ready what a place needs that is not the spool's own. Blocks.

    Raises:
        OSError: It cannot be used; the text says why.
    """
    if place.private is not None and not place.why_not():
        try:
            place.private.mkdir(mode=0o700)
        except FileExistsError:
            pass  # ours, or it is refused now
    if why := place.why_not():
        raise OSError(errno.EACCES, why)


def bury(folder: Path, batch: Batch, reason: str) -> Path:
    """Write events that are refused for good to a file of dead letters, and why beside it.

    Both are on the disk when this returns: the segment they come from is deleted next. The file is
    there whole or not at all: it may be sent again at any time.

    Returns:
        The file.
    """
    path = folder / f"{batch.first_seq:012d}-{batch.last_seq:012d}.dead"
    _write(path.with_suffix(".reason"), reason.encode("utf-8", "backslashreplace"), sync=True)
    unfinished = path.with_suffix(".tmp")
    _write(unfinished, batch.raw, sync=True)
    unfinished.replace(path)
    if sys.platform != "win32":  # which opens no folders
        sync_folder(folder)
    return path


def divide(path: Path, first_seq: int) -> None:
    """Note that what is in a file becomes another artifact from this number on.

    It was too large as a whole, and whatever comes of the parts keeps its key: also where a part
    has to wait, and a later replay could upload the whole.
    """
    cuts = sorted({*division(path), first_seq})
    unfinished = path.with_suffix(".parts.tmp")
    _write(unfinished, "\n".join(map(str, cuts)).encode(), sync=True)
    unfinished.replace(path.with_suffix(".parts"))


def set_aside(path: Path, ending: str) -> Path:
    """Rename a segment's file of lines to another ending; return its new path."""
    target = path.with_suffix(ending)
    path.rename(target)
    return target


def forget(path: Path) -> None:
    """Delete a segment that was delivered."""
    remove_files(path)
    path.with_suffix(".parts").unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make what was made, renamed and deleted in a folder survive the power. Blocks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, *, sync: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    file = Descriptor(os.open(path, flags, 0o600))
    try:
        file.write_at(content, 0)
        if sync:
            os.fsync(file.check())
    finally:
        file.close()


def _make(path: Path, info: Mapping[str, Any] | None, *, sync: bool) -> Descriptor | None:
    """Make a writer's folder, locked and described when it gets its name; return its lock.

    None where somebody else has made it meanwhile.

    Raises:
        OSError: The disk refuses, or the file system knows no locks: nothing is left behind.
    """
    for left in reversed(range(_TRIES)):
        unfinished = path.with_name(f"{UNFINISHED}{path.name}.{secrets.token_hex(4)}")
        lock: Descriptor | None = None
        try:
            try:
                unfinished.mkdir(mode=0o700)
            except FileNotFoundError:
                for folder in reversed(path.parents[:2]):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                unfinished.mkdir(mode=0o700)
            lock = _lock(unfinished / LOCK)
            if lock is None:
                raise FileNotFoundError(errno.ENOENT, "swept away", str(unfinished))
            if info is not None:
                _describe(unfinished, info, sync=sync)
            unfinished.rename(path)
            if sync:
                sync_folder(path.parent)
            return lock
        except BaseException as error:
            if lock is not None:
                lock.close()
            shutil.rmtree(unfinished, ignore_errors=True)
            if isinstance(error, OSError) and path.is_dir():
                return None
            # Whoever sweeps may come between making and locking, where this process was asleep.
            if not (left and lock is None and isinstance(error, FileNotFoundError)):
                raise
    return None


def _describe(folder: Path, info: Mapping[str, Any], *, sync: bool) -> None:
    content = json.dumps({"format": FORMAT_VERSION, **info}).encode()
    unfinished = folder / f"{INFO}.tmp"
    _write(unfinished, content, sync=sync)
    unfinished.replace(folder / INFO)
    if sync:
        sync_folder(folder)


def sweep(path: Path) -> None:
    """Delete a folder whose maker died before it had its name. Blocks."""
    try:
        if time.time() < path.stat().st_mtime + MAKING:
            return
        lock = _lock(path / LOCK)
    except OSError:
        return
    if lock is not None:
        shutil.rmtree(path, ignore_errors=True)
        lock.close()


def _ordinal(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() else 0


def _lock(path: Path) -> Descriptor | None:
    """Lock a file; None when somebody else has it, or when it was deleted under our hands.

    Raises:
        OSError: It cannot be made, or the file system knows no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in LOCKED:
            return None
        raise
    try:
        here, there = os.fstat(descriptor), path.stat()
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return Descriptor(descriptor)
    except OSError:
        pass  # the folder is gone: whoever had it has deleted it
    os.close(descriptor)
    return None
