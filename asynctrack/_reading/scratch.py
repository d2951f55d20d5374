"""Temporary folders for what was logged: readable for their owner only, and removed afterwards;
the next process removes what a killed one left.

A process locks its folder while it lives. It takes the lock before the lock has its name, so a
folder whose lock is free belongs to no process any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Final

_LOCK: Final = "lock"


class Scratch:
    """A temporary folder.

    Args:
        what: What it is for; a part of its name.

    Attributes:
        path: The folder.
    """

    def __init__(self, what: str) -> None:
        prefix = f"asynctrack-{what}-"
        sweep(prefix)
        # mkdtemp: readable and writable for its owner only.
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        unnamed = self.path / f".{_LOCK}"
        lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Also without close(): when it is collected, and at the end of the process.
        self._remove = weakref.finalize(self, _remove, self.path, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder."""
        self._remove()


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def sweep(prefix: str) -> None:
    """Remove the folders of this user's processes that were killed. Blocks."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # no lock: it is being made or removed, or is another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # in use
        finally:
            os.close(lock)
