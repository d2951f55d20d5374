"""The journal of held traces: where events are on disk before it is known whether they are kept.

Files ``<n>.held`` in the writer's folder, made as its segments are: ahead of time, by the worker.
A record is an event of a held trace or what became of one: a line of JSON that says which, and the
event's lines behind it, with 0 for a number. Files go in the order in which they came, when nothing
in the first one is held any more. One that a long trace keeps back is written anew: its traces
again, at the end.

A trace that is kept is noted with the numbers it is about to get, and again when all of it is in
the writer's segments, or on its way from memory where the disk has none: until then it is needed
here. Of one that died in between the segments tell how far it came, and notes do of those segments
that are gone. ``recovery`` reads all this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from asynctrack._buffer.segment import Segment

CAPACITY: Final = 1 << 20
"""Bytes of one file; a single larger event has one for itself."""
MAX_RECORDS: Final = 16_384
RESERVE: Final = 32 * 1024
"""Bytes of a file that only what became of traces may fill, so that this can always be said."""
SPARE_FILES: Final = 4
"""Files that there may be besides those that what is held needs, before one is written anew."""
LOOSE: Final = 3
"""Times as many files as what is held would fill: an event that does not fit begins another one."""


@dataclass(eq=False, slots=True)
class _File:
    segment: Segment
    live: set[int] = field(default_factory=set)
    """The traces whose events are in it, and that are held."""


@dataclass(eq=False, slots=True)
class _Place:
    """Where the events of a trace are: the files, and how many bytes there."""

    files: list[_File] = field(default_factory=list)
    size: int = 0


class Journal:
    """The journal of one writer; used under one lock, but for what the worker asks.

    Args:
        writer_id: Whose it is.
        wake: Wakes the worker; called from any thread, must not block.
    """

    def __init__(self, writer_id: str, wake: Callable[[], None]) -> None:
        self._writer_id = writer_id
        self._wake = wake
        self._files: deque[_File] = deque()
        self._where: dict[int, _Place] = {}
        self._live = 0  # bytes of what is held
        self._spare: Segment | None = None
        self._done: deque[Segment] = deque()
        self._worn: list[_File] = []  # the files that go, as traces are written anew
        self._late: list[bytes] = []  # what became of traces, without room
        self._size = CAPACITY
        self._roomless = False  # an event waits for the next file

    # -- under the lock -----------------------------------------------------------------------

    def hold(self, trace: int, index: int, lines: bytes) -> bool:
        """Write an event; False where there is no room now.

        Args:
            trace: Its trace's number.
            index: Its place there.
            lines: Its line, behind those of values.
        """
        entry = b'{"held":%d,"index":%d}\n%b' % (trace, index, lines)
        if not self._append(entry, RESERVE):
            self._size = max(CAPACITY, len(entry) + RESERVE)
            if not self._roomless:  # a disk that refuses is not asked for each event
                self._roomless = True
                self._wake()
            return False
        file, place = self._files[-1], self._where.setdefault(trace, _Place())
        place.size += len(entry)
        self._live += len(entry)
        if trace not in file.live:
            file.live.add(trace)
            place.files.append(file)
        return True

    def left_out(self, trace: int) -> None:
        """Note that a trace is left out."""
        self._say(b'{"left_out":%d}\n' % trace)
        self._settle(trace)

    def kept(self, trace: int, first_seq: int, events: int) -> None:
        """Note that a trace is about to be accepted, under these numbers."""
        self._say(b'{"kept":%d,"first_seq":%d,"events":%d}\n' % (trace, first_seq, events))

    def stored(self, trace: int, events: int) -> None:
        """Note that so many of its events, the first ones, are in segments, or were cut."""
        self._say(b'{"stored":%d,"events":%d}\n' % (trace, events))

    def accepted(self, trace: int) -> None:
        """Note that all of them are."""
        self._say(b'{"accepted":%d}\n' % trace)
        self._settle(trace)

    def worn(self) -> list[int]:
        """Return the traces to be written anew, as they are all that keeps the first file."""
        files = self._files
        if self._worn or len(files) <= SPARE_FILES + LOOSE * (self._live // CAPACITY):
            return []
        self._worn = list(files)[:-1]  # what comes goes to the last one
        traces = list(files[0].live)
        for trace in traces:
            self._live -= self._where[trace].size
            self._where[trace].size = 0
        return traces

    def written_anew(self, trace: int) -> None:
        """Note that all events of a trace were written again: where they were before, it goes."""
        place = self._where.get(trace)
        if place is None:
            return
        for file in self._worn:
            file.live.discard(trace)
        place.files = [file for file in place.files if trace in file.live]
        self._sweep()

    def take(self, segment: Segment) -> None:
        """Take a file, for what comes when the present one is full."""
        self._size = CAPACITY
        self._roomless = False
        segment.begin(self._writer_id, 1)
        if self._spare is not None:
            self._done.append(self._spare)  # too small for what comes
        self._spare = segment
        late, self._late = self._late, []
        for entry in late:
            self._say(entry)

    # -- the worker's side, in a thread -------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether there is something to make, to grow or to delete."""
        return bool(self._done or self.low or self.wanted)

    @property
    def low(self) -> Segment | None:
        """The file that is being filled where it is to grow, or None."""
        files = self._files
        return files[-1].segment if files and files[-1].segment.low else None

    @property
    def wanted(self) -> tuple[int, int] | None:
        """Return the size in bytes and records of the file that is wanted now, or None."""
        spare, files = self._spare, self._files
        if spare is not None and self._size <= spare.capacity:
            return None
        enough = files and not (self._roomless or self._late)
        if enough and spare is None and not files[-1].segment.ends_soon:
            return None
        return self._size, MAX_RECORDS

    def next_done(self) -> Segment | None:
        """Return a file that is to be deleted, once each."""
        try:
            return self._done.popleft()
        except IndexError:
            return None

    def segments(self) -> list[Segment]:
        """Return the files that hold something."""
        return [file.segment for file in list(self._files)]

    def close(self) -> list[Segment]:
        """Let go of everything; return the files that are still needed."""
        if self._spare is not None:
            self._done.append(self._spare)
            self._spare = None
        if not self._where:
            self._done.extend(file.segment for file in self._files)
            self._files.clear()
        return self.segments()

    # -- inside -------------------------------------------------------------------------------

    def _append(self, entry: bytes, reserve: int) -> bool:
        if self._files:
            segment = self._files[-1].segment
            if segment.used + len(entry) + reserve <= segment.capacity:
                taken = segment.append(entry)
                if taken > 1:
                    self._wake()  # it is to grow
                if taken:
                    return True
        spare = self._spare
        if spare is None or len(entry) + reserve > spare.capacity:
            return False
        self._spare = None
        self._files.append(_File(spare))
        self._sweep()
        self._wake()  # for the next one
        return bool(spare.append(entry))

    def _say(self, entry: bytes) -> None:
        if not self._append(entry, 0):
            self._late.append(entry)
            if len(self._late) == 1:
                self._wake()

    def _settle(self, trace: int) -> None:
        place = self._where.pop(trace, None)
        if place is None:
            return
        self._live -= place.size
        for file in place.files:
            file.live.discard(trace)
        self._sweep()

    def _sweep(self) -> None:
        """Have the first files deleted in which nothing is held any more."""
        files = self._files
        while len(files) > 1 and not files[0].live:
            file = files.popleft()
            if self._worn and file is self._worn[0]:
                self._worn = []
            self._done.append(file.segment)
            self._wake()
