"""A file that stays open over time, and is never taken for another one.

A program may close the descriptors that it does not know (a daemon does, after its fork) and open
files of its own, which get the same numbers. Writing to such a number would spoil a file of the
program's and leak prompts into it; closing it would lose what the program writes there.

So a descriptor is known by a mark: the position of the open file is set to a place by chance, where
nobody else's stands. It is asked for before each use, which is one call to the system of 0.2 µs;
device and inode would take 0.7 µs, ask the server on NFS, and not tell ours from a second one for
the same file. What is read and written says where, so that the position is free for this.
"""

from __future__ import annotations

import errno
import os
import secrets
import weakref
from pathlib import Path
from types import ModuleType
from typing import Final

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

# Beyond the places where files of other people's stand, and below 2 GiB, which all systems know.
_FIRST_MARK: Final = 1 << 30
_HERE: Final = os.SEEK_CUR
_seek: Final = os.lseek


class Descriptor:
    """A descriptor for a regular file that is kept open.

    Args:
        number: What ``os.open`` returned; owned from now on.
    """

    __slots__ = ("__weakref__", "_mark", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._mark = _FIRST_MARK + secrets.randbelow(_FIRST_MARK - 1)
        _seek(number, self._mark, os.SEEK_SET)
        _open.add(self)

    @property
    def ours(self) -> bool:
        """Whether the number still means the file that was opened."""
        try:
            return _seek(self.number, 0, _HERE) == self._mark
        except OSError:
            return False

    def check(self) -> int:
        """Return the number, for one call.

        Raises:
            OSError: It was closed, or means another file by now.
        """
        if not self.ours:
            raise _taken()
        return self.number

    def write_at(self, content: bytes | memoryview, at: int) -> None:
        """Write all of it.

        Raises:
            OSError: The disk refuses, or it is not this file any more. Some may be written.
        """
        # Nearly always one call writes it all: this is where a callback waits for the system.
        number = self.number
        if _seek(number, 0, _HERE) != self._mark:
            raise _taken()
        written = _write_at(number, content, at)
        while written < len(content):
            more = _write_at(self.check(), content[written:], at + written)
            if more <= 0:
                raise OSError(errno.EIO, "the disk takes no more")
            written += more

    def read_at(self, size: int, at: int) -> bytes:
        """Return what is there: less than was asked for where the file ends before.

        Raises:
            OSError: It cannot be read, or it is not this file any more.
        """
        parts = []
        while size > 0:
            part = _read_at(self.check(), size, at)
            if not part:
                break
            parts.append(part)
            size -= len(part)
            at += len(part)
        return b"".join(parts)

    def claim(self, size: int) -> None:
        """Claim room on the disk, in bytes from its start; what is written stays. Blocks.

        Raises:
            OSError: There is none, or it is not this file any more.
        """
        if hasattr(os, "posix_fallocate"):  # elsewhere a full disk is met by who writes
            try:
                os.posix_fallocate(self.check(), 0, size)
            except OSError as error:
                if error.errno not in _CANNOT_ALLOCATE:
                    raise

    def close(self) -> None:
        """Close it, if it is still ours; nothing when it was closed before."""
        number, ours = self.number, self.ours
        self.number = -1
        if ours:
            os.close(number)


def _taken() -> OSError:
    return OSError(errno.EBADF, "its descriptor was closed by others")


def _write_at(number: int, content: bytes | memoryview, at: int) -> int:
    return os.pwrite(number, content, at)


def _read_at(number: int, size: int, at: int) -> bytes:
    return os.pread(number, size, at)


def _seek_and_write(number: int, content: bytes | memoryview, at: int) -> int:
    """Do without ``pwrite``. One thread at a time uses a segment, so nobody sees the mark gone."""
    mark = _seek(number, 0, _HERE)
    _seek(number, at, os.SEEK_SET)
    try:
        return os.write(number, content)
    finally:
        _seek(number, mark, os.SEEK_SET)


def _seek_and_read(number: int, size: int, at: int) -> bytes:
    mark = _seek(number, 0, _HERE)
    _seek(number, at, os.SEEK_SET)
    try:
        return os.read(number, size)
    finally:
        _seek(number, mark, os.SEEK_SET)


if not hasattr(os, "pwrite"):  # Windows
    _write_at, _read_at = _seek_and_write, _seek_and_read


def require_number() -> None:
    """Make sure that the program has descriptors left: half of them are its own.

    Raises:
        OSError: As many as may be are open here.
    """
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and 2 * len(_open) >= limit:
        raise OSError(
            errno.EMFILE,
            f"half of the {limit} files that this process may open are the spool's, two for each"
            " tracker: raise ulimit -n",
        )


def open_new(path: Path, size: int) -> Descriptor:
    """Make a file of zeros that nobody else may read, with its room on the disk claimed.

    Raises:
        OSError: There is one, or no space, no permission, no folder: nothing is left behind.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    number = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    try:
        made = Descriptor(number)
    except BaseException:
        os.close(number)
        path.unlink(missing_ok=True)
        raise
    try:
        _allocate(made, size)
    except BaseException:
        made.close()
        path.unlink(missing_ok=True)
        raise
    return made


_CANNOT_ALLOCATE: Final = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


_ZEROS: Final = memoryview(bytes(1 << 18))


def _allocate(made: Descriptor, size: int) -> None:
    made.claim(size)  # a full disk is met here, in a thread of ours
    # Zeros claim them as well, for macOS and the file systems that cannot. Everywhere they bring
    # the pages into the page cache, so that the caller's thread writes into pages that are there.
    for at in range(0, size, len(_ZEROS)):
        made.write_at(_ZEROS[: size - at], at)


_open: weakref.WeakSet[Descriptor] = weakref.WeakSet()


def _close_all() -> None:
    # The child of a fork has none of its parent's: a lock lives as long as any process has its
    # file open, and would keep the events of a parent that has died from everybody.
    for descriptor in list(_open):
        descriptor.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
