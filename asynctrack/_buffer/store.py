"""What the buffer keeps its lines in: memory, or segments of the spool.

Both hand out *pieces*: consecutive lines that become one artifact. Where a piece ends is decided
when a line does not fit any more, or when the worker cuts early; either way the lines of a piece
are the lines of a segment, so that a replay makes the same artifact again. Each piece is complete
in itself: before the first line in it that refers to a value it has the value.

Nothing here locks: the buffer holds its own lock around every call.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from asynctrack._buffer.packed import Packed
from asynctrack._buffer.segment import Segment

LINE_OVERHEAD: Final = 80
"""Bytes that a line is longer than its body, at the most; what room for it is asked with."""
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
        """Return all lines.

        Raises:
            OSError: Some of them are gone; ``left`` returns the others.
        """

    def left(self) -> tuple[tuple[int, bytes], ...]:
        """Return the lines that are still there, each with its sequence number."""


class MemoryPiece:
    """Lines in memory."""

    durable = False

    def __init__(self, first_seq: int, max_bytes: int, max_events: int) -> None:
        self.first_seq = first_seq
        self.max_bytes = max_bytes
        self._max_events = max_events
        self.held: dict[str, int] = {}
        """The values in it: of a list how many items, of a text one."""
        self.size = 0
        self.lines: list[bytes] = []

    @property
    def events(self) -> int:
        """How many lines."""
        return len(self.lines)

    def has_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes fits; the first one always does."""
        return not self.lines or (
            self.size + length <= self.max_bytes and len(self.lines) < self._max_events
        )

    def append(self, line: bytes) -> int:
        """Add a line; 0 where the piece is full, else 1."""
        if not self.has_room(len(line)):
            return 0
        self.lines.append(line)
        self.size += len(line)
        return 1

    def raw(self) -> bytes:
        """Return all lines."""
        return b"".join(self.lines)

    def left(self) -> tuple[tuple[int, bytes], ...]:
        """Return all lines, each with its sequence number."""
        return tuple(enumerate(self.lines, self.first_seq))


class SegmentPiece:
    """Lines in a segment of the spool."""

    durable = True

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.first_seq = segment.first_seq
        self.held: dict[str, int] = {}
        """As in ``MemoryPiece``."""
        self.append = segment.append
        self.has_room = segment.has_room

    @property
    def size(self) -> int:
        """Bytes of the lines."""
        return self.segment.used

    @property
    def events(self) -> int:
        """How many lines."""
        return self.segment.events

    def raw(self) -> bytes:
        """Return all lines.

        Raises:
            OSError: The file was removed, cut short or damaged by others, or cannot be read.
        """
        return self.segment.content()

    def left(self) -> tuple[tuple[int, bytes], ...]:
        """Return the lines that are still there, each with its sequence number."""
        return self.segment.left()


class _Totals:
    """Sums over pieces."""

    def __init__(self) -> None:
        self.events = 0
        self.size = 0
        self.durable_events = 0
        self.memory_bytes = 0

    def add(self, piece: MemoryPiece | SegmentPiece, sign: int) -> None:
        """Add a piece, or take it away."""
        self.events += sign * piece.events
        self.size += sign * piece.size
        if piece.durable:
            self.durable_events += sign * piece.events
        else:
            self.memory_bytes += sign * piece.size


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
        self._ahead = False  # the next segment is wanted before this one is cut
        self._failed: list[Segment] = []
        self._closed = False
        # Of the pieces that take no more lines. The open one knows its own, and is asked when
        # somebody wants to know: adding up for each line would take as long as storing it.
        self._shut = _Totals()
        self._busy: MemoryPiece | SegmentPiece | None = None  # being written, without the lock

    def append(self, seq: int, line: bytes) -> bool:
        """Add the next line.

        Returns:
            Whether the engine should look: a piece is full, a segment is wanted, or is to grow.
        """
        piece = self._open
        taken = 0 if piece is None else piece.append(line)
        if not taken:
            self._roll(seq, line)
        return taken != 1

    def missing(self, packed: Packed) -> int:
        """Return the bytes of values that have to be written for an event, where it goes next."""
        piece = self._open
        if piece is not None:
            missing = packed.missing(piece.held)
            if piece.has_room(len(packed.body) + LINE_OVERHEAD + missing):
                return missing
        return packed.missing({})

    def place(self, seq: int, packed: Packed) -> MemoryPiece | SegmentPiece:
        """Return the piece that takes an event next; it may be a new one.

        The caller appends its lines, and says with ``placed`` what came of it. Until then the piece
        is not cut.
        """
        piece = self._open
        length = len(packed.body) + LINE_OVERHEAD
        if piece is None or not piece.has_room(length + packed.missing(piece.held)):
            carried = packed.missing({})
            piece = self._begin(seq, length + carried, carried)
        self._busy = piece
        return piece

    def is_open(self, piece: MemoryPiece) -> bool:
        """Tell whether a piece takes lines; one that went to disk does not."""
        return piece is self._open

    def placed(self, seq: int, packed: Packed, taken: int) -> bool:
        """Note that an event was appended, or not: then it has to be placed anew.

        Args:
            seq: Its number.
            packed: The event.
            taken: What ``append`` has returned.
        """
        piece, self._busy = self._busy, None
        if taken and piece is not None:
            packed.hold(piece.held)
            return True
        if piece is self._open and piece is not None:
            if piece.events:
                self._shut_open()
            else:
                self._begin_in_memory(seq)
        return False

    def cut(self) -> MemoryPiece | SegmentPiece | None:
        """Take the oldest piece, also when it is not full; None when there is no line."""
        if not self._pieces or self._pieces[0] is self._busy:
            return None
        piece = self._pieces.popleft()
        if piece is self._open:
            self._open, self._ahead = None, False
        else:
            self._shut.add(piece, -1)
        return piece

    @property
    def awaits_segment(self) -> bool:
        """Whether the oldest lines belong on disk and are not there yet."""
        return self._spooled and bool(self._pieces) and isinstance(self._pieces[0], MemoryPiece)

    @property
    def empty(self) -> bool:
        """Whether there is no line."""
        return not self._pieces

    @property
    def events(self) -> int:
        """How many lines."""
        return self._shut.events + (0 if self._open is None else self._open.events)

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return self._shut.size + (0 if self._open is None else self._open.size)

    @property
    def durable_events(self) -> int:
        """How many lines are in segments."""
        piece = self._open
        return self._shut.durable_events + (piece.events if piece and piece.durable else 0)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the lines that are in no segment."""
        piece = self._open
        return self._shut.memory_bytes + (piece.size if piece and not piece.durable else 0)

    @property
    def first_in_memory(self) -> int | None:
        """The number of the first line that is in no segment, or None."""
        if not self.memory_bytes:
            return None
        return next(piece.first_seq for piece in self._pieces if not piece.durable)

    @property
    def full_pieces(self) -> int:
        """How many pieces take no more lines."""
        return len(self._pieces) - (self._open is not None)

    def durable_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes would go to a segment right now."""
        piece = self._open
        if piece is not None and piece.has_room(length):
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
                return max(piece.size, piece.max_bytes), max(piece.events, max_events)
        if self._spare is not None or self._closed:
            return None
        filling = self._open
        if isinstance(filling, SegmentPiece) and not (self._ahead or filling.segment.ends_soon):
            return None
        return self._max_bytes, max_events

    def want_next(self) -> bool:
        """Want the next segment before the one that is being filled is cut.

        Returns:
            Whether it is wanted now: the next cut takes that one, and there is no other.
        """
        only = len(self._pieces) == 1 and isinstance(self._open, SegmentPiece)
        self._ahead = only and self._spare is None and not self._closed
        return self._ahead

    @property
    def waiting(self) -> tuple[int, int]:
        """Return the size in bytes and the lines of the oldest piece that waits for a segment."""
        for piece in self._pieces:
            if isinstance(piece, MemoryPiece):
                return piece.size, piece.events
        return 0, 0

    def close(self) -> None:
        """Want no more segments than for what is in memory: no further lines come."""
        self._closed = True

    @property
    def low(self) -> Segment | None:
        """The open segment where it is to grow, or None."""
        piece = self._open
        return piece.segment if isinstance(piece, SegmentPiece) and piece.segment.low else None

    def supply(self, segment: Segment) -> MemoryPiece | None:
        """Begin a segment for the oldest piece that is in memory and that it has room for.

        Returns:
            The piece, to be written there and then to be ``moved``; None where there is none.
        """
        for piece in self._pieces:
            if (
                isinstance(piece, MemoryPiece)
                and piece is not self._busy
                # It may have grown meanwhile: the next segment is made to its size.
                and piece.size <= segment.capacity
                and piece.events <= segment.max_events
            ):
                segment.begin(self._writer_id, piece.first_seq)
                return piece
        return None

    def take_as_spare(self, segment: Segment) -> bool:
        """Take a segment for the lines that come; False where there is no use for it."""
        if self._spare is not None:
            return False
        self._spare = segment
        return True

    def moved(self, piece: MemoryPiece, segment: Segment) -> bool:
        """Have a piece in its segment from now on.

        Args:
            piece: The piece.
            segment: Has all of its lines.

        Returns:
            False where it was cut meanwhile, and is delivered from memory.
        """
        if piece not in self._pieces:
            return False
        durable = SegmentPiece(segment)
        durable.held = piece.held
        self._pieces[self._pieces.index(piece)] = durable
        if piece is self._open:
            self._open = durable
        else:
            self._shut.add(piece, -1)
            self._shut.add(durable, 1)
        return True

    def segments(self) -> list[Segment]:
        """Return the segments that hold lines."""
        return [piece.segment for piece in self._pieces if isinstance(piece, SegmentPiece)]

    def take_failed(self) -> list[Segment]:
        """Return the segments that took no more lines, once each: because of the disk, or others.

        One that has no line is of no use to anybody.
        """
        failed, self._failed = self._failed, []
        return failed

    def take_spare(self) -> Segment | None:
        """Give the spare segment back, at the end."""
        spare, self._spare = self._spare, None
        return spare

    def _roll(self, seq: int, line: bytes) -> None:
        """Begin a new piece with this line: on disk where a spare segment takes it."""
        if not self._begin(seq, len(line)).append(line):
            self._begin_in_memory(seq).append(line)

    def _begin(self, seq: int, length: int, carried: int = 0) -> MemoryPiece | SegmentPiece:
        """Begin a new piece.

        Args:
            seq: Number of its first line.
            length: Bytes of what it begins with.
            carried: Bytes of the values among them. Where these are much, there is as much room
                besides, or each further event would need a piece, and all of them, for itself.
        """
        self._shut_open()
        spare, much = self._spare, carried > self._max_bytes // 2
        if spare is None or length > spare.capacity or much:
            room = self._max_bytes + (carried if much else 0)
            self._open = MemoryPiece(seq, room, self._max_events)
        else:
            self._spare = None
            spare.begin(self._writer_id, seq)
            self._open = SegmentPiece(spare)
        self._pieces.append(self._open)
        return self._open

    def _shut_open(self) -> None:
        """Let the open piece take no more lines."""
        piece, self._open = self._open, None
        if piece is None:
            return
        if isinstance(piece, SegmentPiece) and piece.segment.failed:
            self._failed.append(piece.segment)
        self._shut.add(piece, 1)

    def _begin_in_memory(self, seq: int) -> MemoryPiece:
        """Begin the newest piece in memory instead: its segment has taken nothing."""
        refused = self._pieces.pop()
        if isinstance(refused, SegmentPiece):
            self._failed.append(refused.segment)
        piece = MemoryPiece(seq, self._max_bytes, self._max_events)
        self._pieces.append(piece)
        self._open = piece
        return piece
