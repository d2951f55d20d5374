"""Who changes what in the index, and who reads it: locks that end with their process."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from asynctrack._reading.index.place import unwritable

_READER: Final = "reader-"


@contextmanager
def locked(path: Path, how: int) -> Iterator[bool]:
    """Hold a lock on a file, which is made if need be; tells whether it could be had.

    Args:
        path: The file.
        how: As for ``fcntl.flock``.

    Raises:
        ReadError: The file cannot be made.
    """
    descriptor = _opened(path)
    try:
        try:
            fcntl.flock(descriptor, how)
            while not _is_at(descriptor, path):  # it was removed meanwhile
                os.close(descriptor)
                descriptor = _opened(path)
                fcntl.flock(descriptor, how)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


class Reader:
    """Says which folders of the index are being read: a file with their names, locked until
    ``close``. One is enough for any number of folders.

    Args:
        path: The folder of the index.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Path | None = None
        self._held = ExitStack()

    def add(self, name: str) -> None:
        """Keep what is in a folder, from now on.

        Raises:
            ReadError: That cannot be written down.
        """
        if self._file is None:
            self._file = self._path / f"{_READER}{secrets.token_hex(8)}"
            self._held.enter_context(locked(self._file, fcntl.LOCK_EX))
        try:
            with self._file.open("a") as file:
                file.write(f"{name}\n")
        except OSError as error:
            raise unwritable(self._path, error) from error

    def close(self) -> None:
        """Nothing is kept any more."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._held.close()
            self._file = None


def is_read(path: Path, name: str) -> bool:
    """Return whether anybody reads a folder of the index; what dead readers left is removed.

    Args:
        path: The folder of the index.
        name: The folder in it.
    """
    for file in path.glob(f"{_READER}*"):
        with locked(file, fcntl.LOCK_SH | fcntl.LOCK_NB) as free:
            if free:
                file.unlink(missing_ok=True)
            elif name in _text(file).splitlines():
                return True
    return False


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
