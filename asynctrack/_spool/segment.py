"""One segment of the spool: the lines of one artifact on disk, each vouched for.

Its file is described, and read, in ``segment_format``.

It claims its part of the disk ahead of what is written, some KiB at first and twice as much each
time it is half full. Appending is one short write, which the operating system keeps when the
process is killed; a full disk is noticed by whoever claims. It is not mapped into memory: a copy
into a mapping kills the process when somebody else has cut the file short, while a write goes on
behind the hole. States, by the file's ending: ``open`` (being written), ``sealed`` (complete,
perhaps being uploaded), ``dead`` (refused for good).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
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

FIRST_CLAIM: Final = 32 * 1024
"""Bytes of the disk that a segment claims when it is made. It doubles as it fills up."""
NEARLY_FULL: Final = 64 * 1024
"""Bytes that are left of one for which the next one is to be ready."""
_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a segment is.

    Attributes:
        capacity: Room for lines, in bytes.
        max_events: Room for records.
        size: Bytes of lines that go there at once.
        events: How many these are.
        ending: Of its file's name, as long as it is being written.
    """

    capacity: int
    max_events: int
    size: int = 0
    events: int = 0
    ending: str = ".open"

    @property
    def full(self) -> int:
        """Bytes of its file at the most."""
        return HEADER_BYTES + self.capacity + self.max_events * CHECK_BYTES

    @property
    def claim(self) -> int:
        """Bytes of the disk that it claims when it is made."""
        now = HEADER_BYTES + self.size + self.events * CHECK_BYTES
        return min(self.full, max(FIRST_CLAIM, now))


class Segment:
    """A segment that is being written.

    Args:
        folder: The writer's folder.
        ordinal: Number of the segment there.
        shape: How large it is.

    Raises:
        OSError: No space, no permission, no folder: nothing is left behind.
    """

    def __init__(self, folder: Path, ordinal: int, shape: Shape) -> None:
        self.path = folder / f"{ordinal:08d}{shape.ending}"
        capacity, max_events = shape.capacity, shape.max_events
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
        self._at_once = shape.events
        self.full = shape.full
        """Bytes of the file at the most."""
        self.claimed = shape.claim
        """Bytes of the disk that are its own."""
        self._top = self.full
        # From here on the next one is to be ready; with one that is small, at once.
        self._half_end = HEADER_BYTES + min(capacity // 2, max(0, capacity - NEARLY_FULL))
        self._last_half = max(0, max_events // 2 - 1)
        self._wake_at = 0
        self._set_wake()
        self._unsynced: OSError | None = None
        self._disk = threading.Lock()  # syncing and letting go, never appending
        self._file = open_new(self.path, self.claimed)

    @property
    def low(self) -> bool:
        """Whether it is to grow: half of what it has claimed is used."""
        return self._end > self.claimed // 2 and self.claimed < self._top

    @property
    def ends_soon(self) -> bool:
        """Whether the next one is to be ready, as this one may be full soon."""
        return (
            self.events > self._last_half
            or self._end > self._half_end
            or self._top < self.full
            or self.failed is not None
        )

    def grow(self) -> None:
        """Claim twice as much of the disk, up to all of it. Blocks.

        Raises:
            OSError: There is no space.
        """
        size = min(2 * max(self.claimed, self._end), self.full)
        self._file.claim(size)
        self.claimed = size
        self._set_wake()

    def stop_growing(self) -> None:
        """Take no more than there is room for now."""
        self._top = self.claimed = max(self.claimed, self._end)
        if not self.events:
            room = self.claimed - HEADER_BYTES
            self.max_events = self._at_once or room // (2 * CHECK_BYTES)
            self.capacity = self._room = room - self.max_events * CHECK_BYTES

    def count_all(self) -> None:
        """Let what was written beyond it count as claimed."""
        self.claimed = max(self.claimed, self._end)

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
        return (
            self.events < self.max_events
            and self.used + length <= self._room
            and self._end + length < self._top
        )

    def append(self, line: bytes) -> int:
        """Add a line: one write, which the operating system keeps from then on.

        Returns:
            0 where it has no room, or the disk does not take it: it takes no more then. 2 where it
            was taken, and it is time to ``grow``; else 1.
        """
        number, at, length = self.events, self._end, len(line)
        used = self.used + length
        if used > self._room or number >= self.max_events or at + length >= self._top:
            return 0
        record = make_record(number, line)
        if not number:
            record = self._header(0) + record
        try:
            self._file.write_at(record, at)
        except OSError as error:
            self.failed = error
            self._room = -1
            return 0
        # Only now: what did not get there is not counted.
        self._end = end = at + len(record)
        self.used = used
        self.events = number + 1
        if end <= self._wake_at and number != self._last_half:
            return 1
        self._set_wake()
        return 2

    def _set_wake(self) -> None:
        """Set where the engine is to look next: to grow it, or to have the next one ready."""
        marks = [self._half_end]
        if self.claimed < self._top:
            marks.append(self.claimed // 2)
        self._wake_at = min((mark for mark in marks if mark >= self._end), default=self.full)

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

    def seal(self) -> int:
        """Mark it as complete, before anything of it is uploaded. Blocks.

        Returns:
            Bytes of the disk that it gives back: it takes no more lines.

        Raises:
            OSError: The folder is gone, or read-only.
        """
        self._close_header()
        sealed = self.path.with_suffix(".sealed")
        self.path.rename(sealed)
        self.path = sealed
        if not self.held:
            return 0
        os.truncate(self._file.check(), self._end)
        return self._give_back()

    @property
    def held(self) -> bool:
        """Whether its file is open: it can be read then also when it was removed."""
        return self._file.ours

    def let_go(self) -> None:
        """Close the file; nothing can be appended after that."""
        with self._disk:
            self._file.close()

    def trim(self) -> int:
        """Close the file and give the room that it does not use back. Blocks.

        Returns:
            Bytes given back.
        """
        self._close_header()
        self.let_go()
        os.truncate(self.path, self._end)
        return self._give_back()

    def remove(self) -> None:
        """Delete the file. Blocks."""
        self.let_go()
        remove_files(self.path)

    def _give_back(self) -> int:
        # Less than nothing, where lines went beyond what it had claimed.
        given_back, self.claimed = self.claimed - self._end, self._end
        return given_back

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
