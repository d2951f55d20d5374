"""What a file of the spool is to the buffer, which fills it, and to whoever delivers it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Segment(Protocol):
    """The lines of one artifact on disk; see ``asynctrack._spool.segment``.

    What has to do with the disk blocks and raises an OSError where that refuses.
    """

    path: Path
    capacity: int
    max_events: int
    first_seq: int
    events: int
    used: int
    claimed: int
    failed: OSError | None

    @property
    def full(self) -> int:
        """Bytes of its file at the most."""

    @property
    def low(self) -> bool:
        """Whether it is to grow."""

    @property
    def ends_soon(self) -> bool:
        """Whether the next one is to be ready."""

    @property
    def held(self) -> bool:
        """Whether its file is open."""

    def begin(self, writer_id: str, first_seq: int) -> None:
        """Make it this writer's, from this sequence number on. No I/O."""

    def has_room(self, length: int) -> bool:
        """Tell whether a line of this many bytes fits."""

    def append(self, line: bytes) -> int:
        """Add a line; 0 where it is not taken, 2 where it is time to grow. Raises nothing."""

    def fill(self, lines: list[bytes]) -> None:
        """Add lines to a new segment."""

    def content(self) -> bytes:
        """Return all lines."""

    def left(self) -> tuple[tuple[int, bytes], ...]:
        """Return the lines that are left of it, each with its sequence number."""

    def grow(self) -> None:
        """Claim more of the disk."""

    def stop_growing(self) -> None:
        """Take no more than there is room for now."""

    def count_all(self) -> None:
        """Let what was written beyond it count as claimed."""

    def save_again(self) -> None:
        """Write the file anew, where it was removed."""

    def sync(self) -> None:
        """Write what was appended through to the disk."""

    def seal(self) -> int:
        """Mark it as complete; return how much it gives back, in bytes."""

    def let_go(self) -> None:
        """Close the file."""

    def trim(self) -> int:
        """Close the file and give back what it does not use; return how much, in bytes."""

    def remove(self) -> None:
        """Delete the file."""
