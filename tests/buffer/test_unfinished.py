"""What happens while the worker writes an event with values, without the buffer's lock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import SegmentPiece, Store
from asynctrack._capture.event import Events
from asynctrack._capture.observations import Observations
from asynctrack._capture.packing import Packed
from asynctrack._capture.recurring import Recurring
from asynctrack._capture.redact import Redactor
from asynctrack._spool.segment import Segment, Shape
from tests.buffer.test_store import take_away
from tests.spool.test_segment import WRITER
from tests.support.auditor import Values

TEXTS = [f"{number} " + "words " * 20_000 for number in range(3)]


def make_buffer(*, spooled: bool, max_bytes: int = 1 << 20) -> Buffer:
    """A buffer with room for anything."""
    return Buffer(
        writer_id=WRITER,
        store=Store(WRITER, max_bytes, 100, spooled=spooled),
        max_bytes=1 << 30,
        max_events=1_000,
        spool_bytes=1 << 30 if spooled else None,
        wake=lambda: None,
    )


class Meanwhile:
    """An event whose lines are asked for: then something else happens first."""

    def __init__(self, packed: Packed, does: Callable[[], object]) -> None:
        self._packed = packed
        self._does: Callable[[], object] | None = does

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packed, name)

    def __len__(self) -> int:
        return len(self._packed)

    def lines(self, prefix: bytes, seq: int, held: Mapping[str, int]) -> bytes:
        """Do the other thing once, and return the lines."""
        does, self._does = self._does, None
        found = self._packed.lines(prefix, seq, held)
        if does is not None:
            does()
        return found


def encoded(value: Any) -> Any:
    """An event as it comes from a callback."""
    redactor = Redactor()
    events = Events(redactor, Observations(), lambda: 1, lambda: 1, Recurring(redactor))
    return events.encode({"time_unix_nano": 1_700_000_000 * 10**9, "event": "text", "data": value})


def read(raw: bytes) -> list[tuple[int, Any]]:
    """The numbers and the data of events; everything that they refer to is before them."""
    values, found = Values(), []
    for line in raw.splitlines(keepends=True):
        event = values.event(json.loads(line), line)
        assert not values.take_problems()
        if event is not None:
            found.append((event["seq"], event["data"]))
    assert not values.end()
    assert set(values.stored.values()) <= {1}, "once in a piece"
    return found


def take_all(buffer: Buffer) -> list[tuple[int, Any]]:
    """Cut everything, and settle it."""
    found: list[tuple[int, Any]] = []
    while (piece := buffer.take()) is not None:
        found += read(piece.raw())
        if isinstance(piece, SegmentPiece):
            piece.segment.remove()
        buffer.settle(piece)
    assert buffer.counts().waiting_bytes == 0
    return found


def test_the_piece_that_it_goes_to_is_not_cut(tmp_path: Path) -> None:
    """Else it would be in no artifact; what is cut meanwhile waits for it."""
    buffer = make_buffer(spooled=False)
    taken: list[Any] = []
    assert buffer.put_nowait(encoded("first"))
    assert buffer.put_nowait(Meanwhile(encoded(TEXTS[0]), lambda: taken.append(buffer.take())))
    buffer.finish()
    assert taken == [None]
    assert take_all(buffer) == [(1, "first"), (2, TEXTS[0])]


class Slow(Segment):
    """A segment that takes what waited in memory only when it may."""

    def __init__(self, folder: Path, wanted: tuple[int, int]) -> None:
        super().__init__(folder, 1, Shape(*wanted))
        self.begun, self.go = threading.Event(), threading.Event()

    def fill(self, lines: list[bytes]) -> None:
        """Wait, and take them."""
        self.begun.set()
        assert self.go.wait(60)
        super().fill(lines)


def test_a_piece_that_goes_to_disk_meanwhile(tmp_path: Path) -> None:
    """The event that was to join it in memory goes there, too."""
    buffer = make_buffer(spooled=True)
    wanted = buffer.segment_wanted()
    assert wanted is not None
    segment = Slow(tmp_path, wanted)
    assert buffer.put_nowait(encoded(TEXTS[0]))
    buffer.finish()
    supplying = threading.Thread(target=buffer.supply, args=(segment,))
    supplying.start()
    assert segment.begun.wait(60)

    def let_it() -> None:
        segment.go.set()
        supplying.join()

    assert buffer.put_nowait(Meanwhile(encoded([TEXTS[0], TEXTS[1]]), let_it))
    assert buffer.put_nowait(encoded("third"))
    buffer.finish()
    assert buffer.counts().spooled == 3
    assert take_all(buffer) == [(1, TEXTS[0]), (2, [TEXTS[0], TEXTS[1]]), (3, "third")]


@pytest.mark.parametrize("spooled", [False, True])
def test_events_that_come_meanwhile_come_behind(tmp_path: Path, spooled: bool) -> None:
    """Small ones wait for it, too: numbers and lines keep their order, and all adds up."""
    buffer = make_buffer(spooled=spooled)

    def more() -> None:
        assert buffer.put_nowait(encoded("third"))
        assert buffer.put_nowait(encoded([TEXTS[0], TEXTS[1]]))
        counts = buffer.counts()
        assert counts.accepted == 4 == counts.pending + counts.spooled

    assert buffer.put_nowait(encoded("first"))
    assert buffer.put_nowait(Meanwhile(encoded(TEXTS[0]), more))
    buffer.finish()
    buffer.disk_answered(False)  # nobody waits for a segment
    assert take_all(buffer) == [
        (1, "first"), (2, TEXTS[0]), (3, "third"), (4, [TEXTS[0], TEXTS[1]]),
    ]  # fmt: skip


def test_a_segment_that_takes_no_more_meanwhile(tmp_path: Path) -> None:
    """The event goes to the next piece, with all values that it refers to."""
    buffer = make_buffer(spooled=True)
    wanted = buffer.segment_wanted()
    assert wanted is not None
    segment = Segment(tmp_path, 1, Shape(*wanted))
    assert buffer.supply(segment) is None
    assert buffer.put_nowait(encoded(TEXTS[0]))
    buffer.finish()
    assert buffer.put_nowait(Meanwhile(encoded([TEXTS[0], TEXTS[1]]), lambda: take_away(segment)))
    buffer.finish()
    piece = buffer.take()
    assert piece is not None and read(piece.raw()) == [(1, TEXTS[0])]
    segment.remove()
    buffer.settle(piece)
    assert buffer.take_failed() == [segment]
    # What has not found its segment is uploaded from memory.
    buffer.disk_answered(False)
    assert take_all(buffer) == [(2, [TEXTS[0], TEXTS[1]])]
