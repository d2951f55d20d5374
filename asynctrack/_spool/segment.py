"""One segment of the spool: the lines of one artifact on disk, each vouched for.

Its file is described, and read, in ``segment_format``.

It is allocated in full when it is made: appending is one short write into pages that are in memory
already, which the operating system keeps when the process is killed, and a full disk is noticed
when a segment is made. It is not mapped into memory: a copy into a mapping kills the process when
somebody else has cut the file short, while a write goes on behind the hole. States, by the file's
ending: ``open`` (being written), ``sealed`` (complete, perhaps being uploaded), ``dead`` (refused
for good).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from asynctrack._spool.descriptor import open_new
from asynctrack._spool.segment_content import segment_content
from asynctrack._spool.segment_format import (
    CHECK_BYTES,
    HEADER_BYTES,
    Header,
    SegmentError,
    lines_of,
    make_header,
    make_record,
)

_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class Segment:
    """A segment that is being written.

    Args:
        folder: The writer's folder.
        ordinal: Number of the segment there.
        capacity: Room for lines, in bytes.
        max_events: Room for records.

    Raises:
        OSError: No space, no permission, no folder: nothing is left behind.
    """

    def __init__(self, folder: Path, ordinal: int, capacity: int, max_events: int) -> None:
        self.path = folder / f"{ordinal:08d}.open"
        self.capacity = capacity
        self.max_events = max_events
        self.writer_id = ""
        self.first_seq = 0
        self.events = 0
        self.used = 0
        self.failed: OSError | None = None
        """Why it takes no more lines: the disk has refused one, or somebody took its descriptor."""
        self._room = capacity
        self._end = 0  # where the next record goes; the header goes with the first one
        self._unsynced: OSError | None = None
        self._disk = threading.Lock()  # syncing and letting go, never appending
        self._file = open_new(self.path, HEADER_BYTES + capacity + max_events * CHECK_BYTES)

    def write_through(self) -> None:
        """Bring the zeros it was made with to the disk, before it is used. Blocks.

        Raises:
            OSError: The disk failed; it must not be used then.
        """
        getattr(os, "fdatasync", os.fsync)(self._file.check())

    def begin(self, writer_id: str, first_seq: int) -> None:
        """Make it this writer's, from this sequence number on. No I/O."""
        self.writer_id = writer_id
        self.first_seq = first_seq

    def has_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes fits."""
        return self.events < self.max_events and self.used + length <= self._room

    def append(self, line: bytes) -> bool:
        """Add a line: one write, which the operating system keeps from then on.

        Returns:
            False where it has no room, or the disk does not take it: it takes no more then.
        """
        number = self.events
        used = self.used + len(line)
        if used > self._room or number >= self.max_events:
            return False
        record = make_record(number, line)
        if not number:
            record = self._header(0) + record
        try:
            self._file.write_at(record, self._end)
        except OSError as error:
            self.failed = error
            self._room = -1
            return False
        # Only now: what did not get there is not counted.
        self._end += len(record)
        self.used = used
        self.events = number + 1
        return True

    def fill(self, lines: list[bytes]) -> None:
        """Add lines to a new segment that has room for them, in one write. Blocks.

        Raises:
            OSError: The disk does not take them; the segment is of no use then.
        """
        content = b"".join((self._header(0), *map(make_record, range(len(lines)), lines)))
        try:
            self._file.write_at(content, 0)
        except OSError as error:
            self.failed = error
            self._room = -1
            raise
        self._end = len(content)
        self.used = len(content) - HEADER_BYTES - len(lines) * CHECK_BYTES
        self.events = len(lines)

    def content(self) -> bytes:
        """Return all lines. Blocks.

        Raises:
            OSError: It cannot be read, or is not whole any more.
        """
        lines, events = lines_of(self._read()[HEADER_BYTES:])
        if events != self.events or len(lines) != self.used:
            raise OSError(errno.EIO, "cut short or damaged by others", str(self.path))
        return lines

    def left(self) -> tuple[tuple[int, bytes], ...]:
        """Return the lines that are left of it, each with its sequence number. Blocks."""
        end = self.first_seq + self.events
        try:
            found = segment_content(self._read(), self.path)
        except (SegmentError, OSError):
            return ()
        if (found.writer_id, found.first_seq) != (self.writer_id, self.first_seq):
            return ()
        return tuple(one for one in found.lines if one[0] < end)

    def save_again(self) -> None:
        """Write the file anew, where it was removed from its folder. Blocks.

        Raises:
            OSError: The disk refuses.
        """
        content = self._read()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        again = open_new(self.path, len(content))
        try:
            again.write_at(content, 0)
        finally:
            again.close()

    def sync(self) -> None:
        """Write what was appended through to the disk; nothing once let go. Blocks.

        Raises:
            OSError: The disk failed, now or at an earlier call. What it holds is unknown then:
                the kernel may have dropped the pages and would call a second try a success.
        """
        with self._disk:
            if self._unsynced is not None:
                raise self._unsynced
            if self.held:
                try:
                    _sync(self._file.number)
                except OSError as error:
                    self._unsynced = error
                    raise

    def seal(self) -> None:
        """Mark it as complete, before anything of it is uploaded. Blocks.

        Raises:
            OSError: The folder is gone, or read-only.
        """
        self._close_header()
        sealed = self.path.with_suffix(".sealed")
        self.path.rename(sealed)
        self.path = sealed

    @property
    def held(self) -> bool:
        """Whether its file is open: it can be read then also when it was removed."""
        return self._file.ours

    def let_go(self) -> None:
        """Close the file; nothing can be appended after that."""
        with self._disk:
            self._file.close()

    def trim(self) -> None:
        """Close the file and give the room that it does not use back. Blocks."""
        self._close_header()
        self.let_go()
        os.truncate(self.path, self._end)

    def remove(self) -> None:
        """Delete the file. Blocks."""
        self.let_go()
        remove_files(self.path)

    def _header(self, events: int) -> bytes:
        return make_header(Header(self.writer_id, self.first_seq, events))

    def _close_header(self) -> None:
        """Note how many lines there are, so that one cut short later is known for what it is."""
        if self.events and self.held:
            self._file.write_at(self._header(self.events), 0)

    def _read(self) -> bytes:
        if self.held:
            return self._file.read_at(self._end, 0)
        return self.path.read_bytes()[: self._end]


def remove_files(path: Path) -> None:
    """Delete a segment; with the index that one of format 1 has, last: alone it means nothing."""
    path.unlink(missing_ok=True)
    path.with_suffix(".idx").unlink(missing_ok=True)
