"""What the buffer keeps its lines in: memory, or segments of the spool.

Both hand out *pieces*: consecutive lines that become one artifact. Where a piece ends is decided
when a line does not fit any more, or when the worker cuts early; either way the lines of a piece
are the lines of a segment, so that a replay makes the same artifact again.

Nothing here locks: the buffer holds its own lock around every call.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from asynctrack._segment import Segment

MIN_LINE: Final = 64
"""Bytes of a line at the least: version, writer and number alone take more."""


class Piece(Protocol):
    """Consecutive lines that become one artifact."""

    first_seq: int
    size: int

    @property
    def events(self) -> int:
        """How many lines."""

    @property
    def durable(self) -> bool:
        """Whether the lines survive the process."""

    def raw(self) -> bytes:
        """Return all lines."""


class MemoryPiece:
    """Lines in memory."""

    durable = False

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self.size = 0
        self.lines: list[bytes] = []

    @property
    def events(self) -> int:
        """How many lines."""
        return len(self.lines)

    def append(self, line: bytes) -> None:
        """Add a line."""
        self.lines.append(line)
        self.size += len(line)

    def raw(self) -> bytes:
        """Return all lines."""
        return b"".join(self.lines)


class SegmentPiece:
    """Lines in a segment of the spool."""

    durable = True

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.first_seq = segment.first_seq

    @property
    def size(self) -> int:
        """Bytes of the lines."""
        return self.segment.used

    @property
    def events(self) -> int:
        """How many lines."""
        return self.segment.events

    def append(self, line: bytes) -> None:
        """Add a line that has room."""
        self.segment.append(line)

    def raw(self) -> bytes:
        """Return all lines."""
        return self.segment.content()


class Store:
    """Pieces in order, the last one open; in memory, and in segments as far as there are some.

    Args:
        writer_id: Whose segments they are.
        max_bytes: Bytes of one piece; a single larger line is a piece of its own.
        max_events: Lines of one piece.
        spooled: Whether lines belong on disk: it then asks for segments.
    """

    def __init__(self, writer_id: str, max_bytes: int, max_events: int, *, spooled: bool) -> None:
        self._writer_id = writer_id
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._spooled = spooled
        self._pieces: deque[MemoryPiece | SegmentPiece] = deque()
        self._open: MemoryPiece | SegmentPiece | None = None
        self._spare: Segment | None = None
        self.events = 0
        self.size = 0
        self.memory_bytes = 0
        self.durable_events = 0

    def append(self, seq: int, line: bytes) -> bool:
        """Add the next line.

        Returns:
            Whether the worker should look: a piece is full, or a segment is wanted.
        """
        piece = self._open
        rolled = piece is None or not self._fits(piece, len(line))
        if rolled:
            piece = self._roll(seq, len(line))
        assert piece is not None
        piece.append(line)
        self.events += 1
        self.size += len(line)
        if piece.durable:
            self.durable_events += 1
        else:
            self.memory_bytes += len(line)
        return rolled

    def cut(self) -> MemoryPiece | SegmentPiece | None:
        """Take the oldest piece, also when it is not full; None when there is no line."""
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        if piece is self._open:
            self._open = None
        self.events -= piece.events
        self.size -= piece.size
        if piece.durable:
            self.durable_events -= piece.events
        else:
            self.memory_bytes -= piece.size
        return piece

    @property
    def full_pieces(self) -> int:
        """How many pieces take no more lines."""
        return len(self._pieces) - (self._open is not None)

    def durable_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes would go to a segment right now."""
        piece = self._open
        if piece is not None and self._fits(piece, length):
            return piece.durable
        return self._spare is not None and length <= self._spare.capacity

    # -- segments, made by the worker and handed over here -------------------------------------

    @property
    def wanted(self) -> tuple[int, int] | None:
        """Return the size in bytes and events of the segment that is wanted now, or None."""
        if not self._spooled:
            return None
        # No room in its index for more lines than there is room for.
        max_events = min(self._max_events, self._max_bytes // MIN_LINE + 1)
        for piece in self._pieces:
            if isinstance(piece, MemoryPiece):
                return max(piece.size, self._max_bytes), max(piece.events, max_events)
        return None if self._spare is not None else (self._max_bytes, max_events)

    def supply(self, segment: Segment) -> Segment | None:
        """Take a segment: for the oldest piece that is in memory, else as a spare.

        Returns:
            The segment when there is no use for it any more.
        """
        for at, piece in enumerate(self._pieces):
            if isinstance(piece, MemoryPiece):
                if piece.size > segment.capacity or piece.events > segment.max_events:
                    continue  # it grew meanwhile: the next segment is made to its size
                durable = self._begin(segment, piece.first_seq)
                for line in piece.lines:
                    durable.append(line)
                self._pieces[at] = durable
                self.memory_bytes -= piece.size
                self.durable_events += piece.events
                if piece is self._open:
                    self._open = durable
                return None
        if self._spare is None:
            self._spare = segment
            return None
        return segment

    def segments(self) -> list[Segment]:
        """Return the segments that hold lines."""
        return [piece.segment for piece in self._pieces if isinstance(piece, SegmentPiece)]

    def take_spare(self) -> Segment | None:
        """Give the spare segment back, at the end."""
        spare, self._spare = self._spare, None
        return spare

    def _fits(self, piece: MemoryPiece | SegmentPiece, length: int) -> bool:
        if isinstance(piece, SegmentPiece):
            return piece.segment.has_room(length)
        return piece.size + length <= self._max_bytes and piece.events < self._max_events

    def _roll(self, seq: int, length: int) -> MemoryPiece | SegmentPiece:
        piece: MemoryPiece | SegmentPiece
        if self._spare is not None and length <= self._spare.capacity:
            piece, self._spare = self._begin(self._spare, seq), None
        else:
            piece = MemoryPiece(seq)
        self._pieces.append(piece)
        self._open = piece
        return piece

    def _begin(self, segment: Segment, first_seq: int) -> SegmentPiece:
        segment.begin(self._writer_id, first_seq)
        return SegmentPiece(segment)
