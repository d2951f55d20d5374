"""One segment of the spool: the lines of one artifact on disk, and an index that vouches for them.

Its two files are described, and read, in ``_segment_format``.

Both files are allocated in full when they are made and then mapped into memory: appending is a
copy, which the operating system keeps when the process is killed, and a full disk is noticed when
a segment is made, not when a line is written. States, by the ending of the file of lines: ``open``
(being written), ``sealed`` (complete, perhaps being uploaded), ``dead`` (refused for good).
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from asynctrack._segment_format import (
    ENTRY,
    FORMAT_VERSION,
    HEADER,
    HEADER_BYTES,
    HEADER_SUM,
    MAGIC,
)

_CANNOT_ALLOCATE: Final = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
# Unlike mmap.flush it does not stop every other thread of the interpreter meanwhile.
_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class Segment:
    """A segment that is being written.

    Args:
        folder: The writer's folder.
        ordinal: Number of the segment there.
        capacity: Room for lines, in bytes.
        max_events: Room for entries.

    Raises:
        OSError: No space, no permission, no folder: nothing is left behind.
    """

    def __init__(self, folder: Path, ordinal: int, capacity: int, max_events: int) -> None:
        self.path = folder / f"{ordinal:08d}.open"
        self.index_path = folder / f"{ordinal:08d}.idx"
        self.capacity = capacity
        self.max_events = max_events
        self.first_seq = 0
        self.events = 0
        self.used = 0
        self._failed: OSError | None = None
        self._disk = threading.Lock()  # syncing and letting go, never appending
        self._index_file, self._index = _map(
            self.index_path, HEADER_BYTES + max_events * ENTRY.size
        )
        try:
            self._lines_file, self._lines = _map(self.path, capacity)
        except BaseException:
            self._index.close()
            os.close(self._index_file)
            self.index_path.unlink(missing_ok=True)
            raise

    def write_through(self) -> None:
        """Bring the zeros it was made with to the disk, before it is used. Blocks.

        Raises:
            OSError: The disk failed; it must not be used then.
        """
        for descriptor in (self._lines_file, self._index_file):
            getattr(os, "fdatasync", os.fsync)(descriptor)

    def begin(self, writer_id: str, first_seq: int) -> None:
        """Make it this writer's, from this sequence number on. No I/O."""
        self.first_seq = first_seq
        header = HEADER.pack(MAGIC, FORMAT_VERSION, 0, 0, first_seq, writer_id.encode())
        self._index[: len(header) + 4] = header + HEADER_SUM.pack(crc32(header))

    def has_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes fits."""
        return self.events < self.max_events and self.used + length <= self.capacity

    def append(self, line: bytes) -> bool:
        """Add a line; False where it has no room. No I/O: the operating system has it then."""
        start = self.used
        number = self.events
        end = start + len(line)
        if end > self.capacity or number >= self.max_events:
            return False
        self._lines[start:end] = line
        # Only now: an entry never vouches for bytes that are not there yet.
        ENTRY.pack_into(
            self._index,
            HEADER_BYTES + number * ENTRY.size,
            start + 1,
            len(line),
            crc32(line, start),
        )
        self.used = end
        self.events = number + 1
        return True

    def content(self) -> bytes:
        """Return all lines. Reads the file when it is no longer mapped.

        Raises:
            OSError: It cannot be read, or is not whole any more.
        """
        try:
            return self._lines[: self.used]
        except ValueError:
            content = self.path.read_bytes()[: self.used]
        if len(content) < self.used:
            raise OSError(errno.EIO, "shorter than it was written", str(self.path))
        return content

    def save_again(self) -> None:
        """Write both files anew from memory, where they were removed from disk. Blocks.

        Raises:
            OSError: The disk refuses.
        """
        for path, content in (
            (self.index_path, self._index[: HEADER_BYTES + self.events * ENTRY.size]),
            (self.path, self._lines[: self.used]),
        ):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, mapped = _map(path, len(content))
            os.close(descriptor)
            mapped[:] = content
            mapped.close()

    def sync(self) -> None:
        """Write what was appended through to the disk; nothing once unmapped. Blocks.

        Raises:
            OSError: The disk failed, now or at an earlier call. What it holds is unknown then:
                the kernel may have dropped the pages and would call a second try a success.
        """
        with self._disk:
            if self._failed is not None:
                raise self._failed
            if not self.mapped:
                return
            try:
                if sys.platform != "linux":  # where a sync of the file may not see the mapping
                    self._lines.flush()
                    self._index.flush()
                _sync(self._lines_file)
                _sync(self._index_file)
            except OSError as error:
                self._failed = error
                raise

    def seal(self) -> None:
        """Mark it as complete, before anything of it is uploaded. Blocks.

        Raises:
            OSError: The folder is gone, or read-only.
        """
        sealed = self.path.with_suffix(".sealed")
        self.path.rename(sealed)
        self.path = sealed

    @property
    def mapped(self) -> bool:
        """Whether it is in memory."""
        return not self._lines.closed

    def unmap(self) -> None:
        """Let go of the memory; nothing can be appended after that."""
        with self._disk:
            if self.mapped:
                self._lines.close()
                self._index.close()
                os.close(self._lines_file)
                os.close(self._index_file)

    def trim(self) -> None:
        """Unmap both files and give the room they do not use back. Blocks."""
        self.unmap()
        os.truncate(self.path, self.used)
        os.truncate(self.index_path, HEADER_BYTES + self.events * ENTRY.size)

    def remove(self) -> None:
        """Delete both files, the lines first. Blocks."""
        self.unmap()
        remove_files(self.path)


def remove_files(path: Path) -> None:
    """Delete a segment's files, the lines first: an index without lines means nothing."""
    path.unlink(missing_ok=True)
    path.with_suffix(".idx").unlink(missing_ok=True)


def _map(path: Path, size: int) -> tuple[int, mmap.mmap]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _allocate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        # Claims the blocks: writing into a mapped hole on a full disk would kill the process.
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _CANNOT_ALLOCATE:
                raise
    # Zeros claim them as well, for macOS and the file systems that cannot. Everywhere they bring
    # the pages into the page cache: the first copy into a page is then 0.1 µs and not 15, on the
    # caller's thread (ext4), for 0.8 ms in a thread of the worker's for 8 MiB.
    chunk = bytes(1 << 18)
    left = size
    while left > 0:
        left -= os.write(descriptor, chunk[: min(left, len(chunk))])
