"""The buffer's books: what became of every event accepted, and whether there is room for more.

::

    accepted = delivered + spooled + pending + dead_lettered

Nothing here locks: the buffer holds its own lock around every call.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from asynctrack._buffer.store import LINE_OVERHEAD, MemoryPiece, SegmentPiece, Store

RESERVED_TENTHS: Final = 1
"""Tenths of the buffer that only ends, errors and the user's own values may fill, so that a
tracker that has to drop sheds starts and tokens first."""


@dataclass(frozen=True, slots=True)
class BufferCounts:
    """The buffer's counters, read together."""

    accepted: int
    delivered: int
    dead_lettered: int
    spooled: int
    pending: int
    waiting_bytes: int
    dropped: dict[str, int]
    waiting: int


class Ledger:
    """Counts events, and the bytes of those that are not settled.

    Args:
        store: What is accepted and not cut.
    """

    __slots__ = (
        "_cut_durable", "_dead_lettered", "_delivered", "_store", "accepted", "cut_memory_bytes",
        "cut_memory_events", "dropped", "settled", "unfinished_bytes", "unfinished_events",
        "waiting_bytes",
    )  # fmt: skip

    def __init__(self, store: Store) -> None:
        self._store = store
        self.accepted = 0
        self.settled = 0  # delivered or dead-lettered
        self.waiting_bytes = 0  # of what is accepted and not settled; below, what of it is cut
        self._cut_durable = 0
        self.cut_memory_bytes = 0
        self.cut_memory_events = 0
        self.unfinished_bytes = 0  # of what is accepted and not in the store yet
        self.unfinished_events = 0
        self._delivered = 0
        self._dead_lettered = 0
        # Added to without a call in between, after which a signal handler could run.
        self.dropped: defaultdict[str, int] = defaultdict(int)

    def cut(self, piece: MemoryPiece | SegmentPiece) -> None:
        """Note a piece that was taken out of the store."""
        if piece.durable:
            self._cut_durable += piece.events
        else:
            self.cut_memory_bytes += piece.size
            self.cut_memory_events += piece.events

    def settle(self, piece: MemoryPiece | SegmentPiece, refused: int) -> None:
        """Note a piece that was acknowledged, but for the events refused for good."""
        events = piece.events
        self.settled += events
        self.waiting_bytes -= piece.size
        if piece.durable:
            self._cut_durable -= events
        else:
            self.cut_memory_bytes -= piece.size
            self.cut_memory_events -= events
        self._delivered += events - refused
        self._dead_lettered += refused

    def counts(self, waiting: int) -> BufferCounts:
        """Return all counters.

        Args:
            waiting: Callbacks that wait for room.
        """
        spooled = self._store.durable_events + self._cut_durable
        return BufferCounts(
            self.accepted,
            self._delivered,
            self._dead_lettered,
            spooled,
            self.accepted - self.settled - spooled,
            self.waiting_bytes,
            dict(self.dropped),
            waiting,
        )


class Room:
    """Whether there is room for an event: a decision, nothing is counted here.

    Args:
        ledger: What waits.
        store: Where the event would go.
        max_bytes: Bound of what is in memory, in bytes; without ``spool_bytes``, of all.
        max_events: Bound in events; with ``spool_bytes``, of what is in memory.
        spool_bytes: Bound of all, in bytes, where a full memory goes on to disk; None where it
            does not.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        max_bytes: int,
        max_events: int,
        spool_bytes: int | None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._all = max_bytes, max_events
        self._sheddable = _without_reserve(max_bytes), _without_reserve(max_events)
        self._spool_bytes = spool_bytes
        self.spools = spool_bytes is not None
        """Whether a full memory goes on to disk."""
        # As long as less than this waits, in memory or not, whatever comes has room.
        bound = max_bytes if spool_bytes is None else min(max_bytes, spool_bytes)
        self.ample_bytes = _without_reserve(bound) - LINE_OVERHEAD
        self.ample_events = _without_reserve(max_events)

    def fits(self, length: int, sheddable: bool, at_once: bool = True) -> bool:
        """Tell whether there is room for an event with a body of so many bytes.

        Args:
            length: Bytes.
            sheddable: It may not use the part reserved for ends and errors.
            at_once: Whether it goes to the store at once.
        """
        ledger, store = self._ledger, self._store
        waiting = ledger.accepted - ledger.settled
        if not waiting:
            return True  # an event larger than the whole buffer passes when it is alone
        length += LINE_OVERHEAD
        max_bytes, max_events = self._sheddable if sheddable else self._all
        if self._spool_bytes is None:
            return ledger.waiting_bytes + length <= max_bytes and waiting < max_events
        if ledger.waiting_bytes + length > self._spool_bytes:
            return False
        return (
            store.memory_bytes + ledger.cut_memory_bytes + ledger.unfinished_bytes + length
            <= max_bytes
            and store.events
            - store.durable_events
            + ledger.cut_memory_events
            + ledger.unfinished_events
            < max_events
        ) or (at_once and store.durable_room(length))

    def fits_together(self, length: int, events: int) -> bool:
        """Tell whether there is room for several events that take so many bytes together."""
        ledger = self._ledger
        waiting = ledger.accepted - ledger.settled
        if not waiting:
            return True  # as above
        bound = self._all[0] if self._spool_bytes is None else self._spool_bytes
        return ledger.waiting_bytes + length <= bound and (
            waiting + events <= self._all[1] or self._spool_bytes is not None
        )

    def disk_may_help(self, length: int) -> bool:
        """Tell whether the next segment makes room for an event with a body of so many bytes."""
        length += LINE_OVERHEAD
        return (
            self._spool_bytes is not None
            and length <= self._all[0]
            and self._ledger.waiting_bytes + length <= self._spool_bytes
        )


def _without_reserve(bound: int) -> int:
    return bound - bound * RESERVED_TENTHS // 10
