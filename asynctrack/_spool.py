"""The spool on disk: a folder for each writer, its lock, and what it says about itself.

::

    <spool_dir>/v1/<writer>/lock            held by the writer as long as it lives
                            writer.json     where its events belong; no secrets
                            00000001.open   the lines of one artifact each, see ``_segment``
                            00000001.idx

There is no index over all of it that could break: whoever holds a writer's lock owns its folder,
and the operating system gives the lock back however a process ends.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from asynctrack._artifact import Batch
from asynctrack._segment import FORMAT_VERSION, Segment, remove_files

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

DIRECTORY_VERSION: Final = "v1"
_INFO = "writer.json"


class SpoolBusyError(Exception):
    """The writer lives, or somebody else replays its events right now."""


def default_spool_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder under the user's state directory.

    ``$XDG_STATE_HOME/asynctrack/spool``, by default ``~/.local/state/asynctrack/spool``: see the
    XDG Base Directory Specification, which names it for data that should survive restarts.
    """
    environ = os.environ if environ is None else environ
    state = environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path("~/.local/state").expanduser()
    return base / "asynctrack" / "spool"


class WriterFolder:
    """The folder of one writer, owned: its lock is held until ``close``.

    Args:
        path: The folder.

    Raises:
        SpoolBusyError: Somebody else holds the lock.
        OSError: The folder cannot be made or used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for folder in (*reversed(path.parents[:2]), path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(path / "lock")
        if self._lock is None:
            raise SpoolBusyError(f"{path} is in use by a living process")
        self._ordinal = max((_ordinal(file) for file in path.glob("*.idx")), default=0)

    def __enter__(self) -> WriterFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def describe(self, info: Mapping[str, Any]) -> None:
        """Write down where the events belong, so that anybody can replay them."""
        content = json.dumps({"format": FORMAT_VERSION, **info}, indent=1).encode()
        unfinished = self.path / f"{_INFO}.tmp"
        descriptor = os.open(
            unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        unfinished.replace(self.path / _INFO)

    def description(self) -> dict[str, Any]:
        """Return what ``describe`` wrote; empty where that is missing or damaged."""
        try:
            value = json.loads((self.path / _INFO).read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def new_segment(self, capacity: int, max_events: int) -> Segment:
        """Make a segment ready.

        Raises:
            OSError: No space, no permission, no folder.
        """
        segment = Segment(self.path, self._ordinal + 1, capacity, max_events)
        self._ordinal += 1
        return segment

    def segments(self) -> list[Path]:
        """Return the files of lines that wait for delivery, oldest first."""
        return sorted((*self.path.glob("*.open"), *self.path.glob("*.sealed")))

    def dead_letters(self) -> list[Path]:
        """Return the files of lines that were refused for good, oldest first."""
        return sorted(self.path.glob("*.dead"))

    def close(self) -> None:
        """Give the folder up; delete it when nothing in it is worth keeping."""
        if self._lock is None:
            return
        if not (self.segments() or self.dead_letters() or [*self.path.glob("*.unreadable")]):
            # The lock is held until the folder is gone, so nobody takes over what is being deleted.
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def abandon(self) -> None:
        """Close the lock's file without touching anything: for the child of a fork."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def writer_folder(spool_dir: Path, writer_id: str) -> Path:
    """Return the path of a writer's folder."""
    return spool_dir / DIRECTORY_VERSION / writer_id


def writers(spool_dir: Path) -> list[Path]:
    """Return the folders of all writers, oldest first, whoever owns them."""
    try:
        return sorted(path for path in (spool_dir / DIRECTORY_VERSION).iterdir() if path.is_dir())
    except OSError:
        return []


def orphans(spool_dir: Path, skip: str = "") -> Iterator[WriterFolder]:
    """Take over the folders of writers that have died, one after the other.

    Args:
        spool_dir: The spool.
        skip: A writer to leave alone.

    Yields:
        Each folder, owned; close it before the next one.
    """
    for path in writers(spool_dir):
        if path.name == skip:
            continue
        try:
            folder = WriterFolder(path)
        except (SpoolBusyError, OSError):
            continue
        yield folder


def used_bytes(spool_dir: Path) -> int:
    """Return the size of everything in the spool, in bytes."""
    total = 0
    for path in writers(spool_dir):
        for file in path.glob("*"):
            try:
                total += file.stat().st_size
            except OSError:
                continue  # delivered and deleted meanwhile
    return total


def bury(folder: Path, batch: Batch, reason: str) -> None:
    """Write events that are refused for good to a file of dead letters, and why beside it."""
    path = folder / f"{batch.first_seq:012d}-{batch.last_seq:012d}.dead"
    path.write_bytes(batch.raw)
    path.chmod(0o600)
    path.with_suffix(".reason").write_text(reason)


def set_aside(path: Path, ending: str) -> Path:
    """Rename a segment's file of lines to another ending; return its new path."""
    target = path.with_suffix(ending)
    path.rename(target)
    return target


def forget(path: Path) -> None:
    """Delete a segment that was delivered."""
    remove_files(path)


def _ordinal(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _lock(path: Path) -> int | None:
    """Lock a file; None when somebody else has it, or when it was deleted under our hands."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here, there = os.fstat(descriptor), path.stat()
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return descriptor
    except OSError:
        pass  # locked by another process, or the folder is gone
    os.close(descriptor)
    return None
