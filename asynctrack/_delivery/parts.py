"""The parts in which a piece is delivered: the whole, halves where it is too large, what is left.

A piece is cut into parts where the backend finds it too large, and where others have cut its file
short: what is left is delivered, as unbroken runs of numbers, and the rest is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from asynctrack._buffer.store import MemoryPiece, SegmentPiece
from asynctrack._common.artifact import Batch
from asynctrack._common.lines import entries_of
from asynctrack._delivery.encode import runs
from asynctrack._errors import PermanentError


@dataclass(slots=True)
class Part:
    """Some events of a piece, by their numbers, that become an artifact of their own.

    Attributes:
        failures: How often that could not be uploaded.
        shown: Whether those who look at the events have seen it.
    """

    first_seq: int
    last_seq: int
    failures: int = 0
    shown: bool = False

    @property
    def events(self) -> int:
        """How many."""
        return self.last_seq - self.first_seq + 1


class Content:
    """The entries of a piece, as they were read just now.

    Args:
        writer_id: Who accepted the events.
        piece: The piece.
        left: What is left of it, by numbers; None to read all of it.

    Raises:
        OSError: It is to be read as a whole, and some of it is gone.
    """

    def __init__(
        self,
        writer_id: str,
        piece: MemoryPiece | SegmentPiece,
        left: Mapping[int, bytes] | None = None,
    ) -> None:
        self._writer_id = writer_id
        self._first_seq = piece.first_seq
        self._events = piece.events
        self._raw = piece.raw() if left is None else b""
        self._left = left

    @property
    def whole(self) -> bool:
        """Whether all of them are there."""
        return self._left is None

    def batch(self, part: Part) -> Batch:
        """Return the events of a part, with the values that they refer to."""
        if self._left is None and part.events == self._events:
            return Batch(self._writer_id, part.first_seq, part.last_seq, self._raw)
        if self._left is None:
            entries = entries_of(self._raw, self._first_seq)
        else:
            entries = sorted(self._left.items())
        # All of it up to there: what its events refer to may stand before them.
        cuts = {part.first_seq, part.last_seq + 1}
        batches = runs(self._writer_id, entries, cuts)
        return next(batch for batch in batches if batch.first_seq == part.first_seq)


@dataclass(slots=True)
class Work:
    """What is left to do of a piece. No bytes: it may be much, and it may wait for long.

    Attributes:
        todo: Parts to be delivered.
        refused: Parts that the backend refuses for good, and why.
        lost: How many events are gone.
        sealed: Whether its file is marked as complete.
    """

    todo: deque[Part]
    refused: list[tuple[Part, PermanentError]] = field(default_factory=list)
    lost: int = 0
    sealed: bool = False

    def keep(self, left: Mapping[int, bytes]) -> list[Part]:
        """Go on with what is left of the piece; return what is lost of it."""
        gone: list[Part] = []
        todo: deque[Part] = deque()
        for part in self.todo:
            for seq in range(part.first_seq, part.last_seq + 1):
                into, failures = (todo, part.failures) if seq in left else (gone, 0)
                if into and into[-1].last_seq == seq - 1 and seq > part.first_seq:
                    into[-1].last_seq = seq
                else:
                    into.append(Part(seq, seq, failures, part.shown))
        refused = []
        for part, why in self.refused:
            whole = all(seq in left for seq in range(part.first_seq, part.last_seq + 1))
            if whole:
                refused.append((part, why))
            else:  # it cannot be set aside any more
                gone.append(part)
        self.todo, self.refused = todo, refused
        self.lost += sum(part.events for part in gone)
        return gone
