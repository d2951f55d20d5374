"""One segment of the spool: the lines of one artifact on disk, and an index that vouches for them.

Two files. ``<n>.open`` holds the lines as they will be uploaded, nothing else: plain NDJSON that
any tool reads. ``<n>.idx`` holds a header and one entry for each line: where it starts, how long it
is, and a checksum over both and the line. A line counts when its entry vouches for it, so a torn or
damaged one is told from a good one, and each entry stands for itself: damage costs the records it
hits and no others.

Both files are allocated in full when they are made and then mapped into memory: appending is a
copy, which the operating system keeps when the process is killed, and a full disk is noticed when
a segment is made, not when a line is written. States, by the ending of the file of lines: ``open``
(being written), ``sealed`` (complete, perhaps being uploaded), ``dead`` (refused for good).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FORMAT_VERSION: Final = 1
"""Version of the spool's files. Older ones are read, newer ones are refused and kept."""

_MAGIC: Final = b"ATSPOOL\n"
# magic, version, unused, first seq, writer id
_HEADER: Final = struct.Struct("<8sHHIQ32s")
_HEADER_SUM: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<III")  # start + 1 (so that zero means none), length, checksum
HEADER_BYTES: Final = 64
assert _HEADER.size + _HEADER_SUM.size <= HEADER_BYTES


class SegmentError(Exception):
    """A segment cannot be read: not ours, a newer version, or its header is damaged."""


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
        try:
            self._index = _map(self.index_path, HEADER_BYTES + max_events * _ENTRY.size)
            self._lines = _map(self.path, capacity)
        except BaseException:
            self.path.unlink(missing_ok=True)
            self.index_path.unlink(missing_ok=True)
            raise

    def begin(self, writer_id: str, first_seq: int) -> None:
        """Make it this writer's, from this sequence number on. No I/O."""
        self.first_seq = first_seq
        header = _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, 0, first_seq, writer_id.encode())
        self._index[: len(header) + 4] = header + _HEADER_SUM.pack(zlib.crc32(header))

    def has_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes fits."""
        return self.events < self.max_events and self.used + length <= self.capacity

    def append(self, line: bytes) -> None:
        """Add a line that has room. No I/O: the operating system has it when this returns."""
        start = self.used
        end = start + len(line)
        self._lines[start:end] = line
        # Only now: an entry never vouches for bytes that are not there yet.
        _ENTRY.pack_into(
            self._index,
            HEADER_BYTES + self.events * _ENTRY.size,
            start + 1,
            len(line),
            zlib.crc32(line, start),
        )
        self.used = end
        self.events += 1

    def content(self) -> bytes:
        """Return all lines. Reads the file when it is no longer mapped."""
        try:
            return self._lines[: self.used]
        except ValueError:
            return self.path.read_bytes()[: self.used]

    def sync(self) -> None:
        """Write what was appended through to the disk. Blocks.

        Raises:
            OSError: The disk failed. What it holds is unknown then; do not call it again.
        """
        self._lines.flush()
        self._index.flush()

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
        self._lines.close()
        self._index.close()

    def trim(self) -> None:
        """Unmap both files and give the room they do not use back. Blocks."""
        self.unmap()
        os.truncate(self.path, self.used)
        os.truncate(self.index_path, HEADER_BYTES + self.events * _ENTRY.size)

    def remove(self) -> None:
        """Delete both files, the lines first. Blocks."""
        self.unmap()
        remove_files(self.path)


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a segment on disk holds.

    Attributes:
        writer_id: Whose it is; empty for one that was made ready and never used.
        first_seq: Sequence number that its first line has.
        lines: The good lines, each with its sequence number, in order.
        damaged: Sequence numbers whose entry or line is damaged, as far as that can be told.
    """

    writer_id: str
    first_seq: int
    lines: tuple[tuple[int, bytes], ...]
    damaged: tuple[int, ...]


def read_segment(path: Path) -> SegmentContent:
    """Read a segment from disk, whatever state it was left in.

    Args:
        path: The file of lines.

    Raises:
        SegmentError: It is not ours, of a newer version, or its header is damaged. Its files are
            left as they are.
        OSError: A file cannot be read.
    """
    index = path.with_suffix(".idx").read_bytes()
    lines = path.read_bytes()
    if not any(index[:HEADER_BYTES]):
        return SegmentContent("", 0, (), ())
    writer_id, first_seq = _read_header(index, path)
    good: list[tuple[int, bytes]] = []
    damaged: list[int] = []
    count = max(0, len(index) - HEADER_BYTES) // _ENTRY.size
    while count and not any(_entry_bytes(index, count - 1)):
        count -= 1  # the room behind the last entry
    for number in range(count):
        start, length, checksum = _ENTRY.unpack(_entry_bytes(index, number))
        start -= 1
        line = lines[start : start + length] if start >= 0 else b""
        sound = length and len(line) == length and zlib.crc32(line, start) == checksum
        if sound and line.endswith(b"\n"):
            good.append((first_seq + number, line))
        else:
            damaged.append(first_seq + number)
    return SegmentContent(writer_id, first_seq, tuple(good), tuple(damaged))


def remove_files(path: Path) -> None:
    """Delete a segment's files, the lines first: an index without lines means nothing."""
    path.unlink(missing_ok=True)
    path.with_suffix(".idx").unlink(missing_ok=True)


def _entry_bytes(index: bytes, number: int) -> bytes:
    start = HEADER_BYTES + number * _ENTRY.size
    return index[start : start + _ENTRY.size]


def _read_header(index: bytes, path: Path) -> tuple[str, int]:
    size = _HEADER.size
    if len(index) < size + _HEADER_SUM.size or index[: len(_MAGIC)] != _MAGIC:
        raise SegmentError(f"{path.with_suffix('.idx')}: not an index of asynctrack's, or damaged")
    _, version, _, _, first_seq, writer = _HEADER.unpack_from(index)
    (checksum,) = _HEADER_SUM.unpack_from(index, size)
    if zlib.crc32(index[:size]) != checksum:
        raise SegmentError(f"{path.with_suffix('.idx')}: its header is damaged")
    if version > FORMAT_VERSION:
        raise SegmentError(
            f"{path}: written by a newer version (format {version}, this one reads up to"
            f" {FORMAT_VERSION}); it is kept, replay it with that version"
        )
    return writer.rstrip(b"\0").decode("ascii", "replace"), first_seq


def _map(path: Path, size: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _allocate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        # Claims the blocks: writing into a mapped hole on a full disk would kill the process.
        os.posix_fallocate(descriptor, 0, size)
        return
    chunk = bytes(1 << 20)  # macOS has no such call: write zeros, which claims them as well
    left = size
    while left > 0:
        left -= os.write(descriptor, chunk[: min(left, len(chunk))])
