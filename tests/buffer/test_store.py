"""Where the buffer keeps its lines: pieces in memory, pieces on disk, and a crash at any moment.

``SPOOL_EXAMPLES=2000 pytest tests/buffer/test_store.py`` takes 100,000 steps and more.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import MemoryPiece, SegmentPiece, Store
from asynctrack._capture.event import Body, Events
from asynctrack._capture.observations import Observations
from asynctrack._capture.recurring import Recurring
from asynctrack._capture.redact import Redactor
from asynctrack._common.artifact import Batch
from asynctrack._delivery.encode import encode_batch
from asynctrack._delivery.replay_plan import plan_segment
from asynctrack._format import parse_artifact_name
from asynctrack._spool.layout import waiting_segments
from asynctrack._spool.segment import Segment, Shape
from tests.spool.test_segment import WRITER
from tests.support.auditor import Values

PIECE_BYTES, PIECE_EVENTS = 600, 5
VALUES = ["a" * 5_000, "b" * 7_000, [{"x": "c" * 600}] * 9, "d " * 50_000]
DAY = 86_400 * 10**9
Piece = MemoryPiece | SegmentPiece


def body(text: str, day: int = 0) -> bytes:
    """An event as capture encodes it."""
    return b'{"time_unix_nano":%d,"event":"text","x":"%s"}' % (
        1_700_000_000 * 10**9 + day * DAY,
        text.encode(),
    )


def store(*, spooled: bool = True) -> Store:
    return Store(WRITER, PIECE_BYTES, PIECE_EVENTS, spooled=spooled)


def numbered(content: bytes) -> list[int]:
    """The sequence numbers of events; each has the values that it refers to before it."""
    values, found = Values(), []
    for line in content.splitlines(keepends=True):
        event = values.event(json.loads(line), line)
        assert not values.take_problems()
        if event is not None:
            found.append(event["seq"])
    assert not values.end()
    return found


class Crashes(RuleBasedStateMachine):
    """Everything the worker does to a buffer with a spool, in any order, and a crash after each.

    The crash is an invariant: what is on disk is read back as a replay does it, after every step,
    and must make a whole of what was uploaded before.
    """

    max_bytes = 2500

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="asynctrack-store-"))
        redactor = Redactor()
        self.events = Events(redactor, Observations(), lambda: 1, lambda: 1, Recurring(redactor))
        self.buffer = Buffer(
            writer_id=WRITER,
            store=store(),
            max_bytes=self.max_bytes,
            max_events=25,
            spool_bytes=self.max_bytes * 12 // 5,
            wake=lambda: None,
        )
        self.ordinal = 0
        self.durable: set[int] = set()
        self.accepted = self.dropped = 0
        self.made: list[Segment] = []
        self.cut: list[Piece] = []
        self.sealed: list[Piece] = []
        self.uploaded: list[Piece] = []
        self.removed: list[Piece] = []
        self.objects: dict[str, bytes] = {}

    def teardown(self) -> None:
        for segment in self.made:
            segment.let_go()
        for piece in (*self.cut, *self.sealed, *self.uploaded):
            if isinstance(piece, SegmentPiece):
                piece.segment.let_go()
        for segment in (*self.buffer.segments(), self.buffer.take_spare()):
            if segment is not None:
                segment.let_go()
        shutil.rmtree(self.folder)

    # -- the callbacks ----------------------------------------------------------------------------

    @rule(size=st.sampled_from([0, 10, 100, 400, 900]), day=st.integers(0, 2), shed=st.booleans())
    def put(self, size: int, day: int, shed: bool) -> None:
        self.put_one(body("x" * size, day), shed)

    @rule(which=st.lists(st.integers(0, 3), min_size=1, max_size=3), day=st.integers(0, 2))
    def put_values(self, which: list[int], day: int) -> None:
        """An event that refers to values, small or larger than what a callback writes itself."""
        record = {"time_unix_nano": 1_700_000_000 * 10**9 + day * DAY, "event": "text"}
        self.put_one(self.events.encode({**record, "data": [VALUES[number] for number in which]}))

    def put_one(self, event: Body, shed: bool = False) -> None:
        """Put an event, and note what becomes of it."""
        spooled = self.buffer.counts().spooled
        if self.buffer.put_nowait(event, sheddable=shed):
            self.accepted += 1
            if self.buffer.counts().spooled == spooled + 1:
                self.durable.add(self.accepted)
        else:
            self.buffer.drop("buffer_full")
            self.dropped += 1

    @rule()
    def finish(self) -> None:
        """The worker does what callbacks have left to it."""
        waiting = [seq for seq, _, _ in self.buffer._unfinished]
        spooled = self.buffer.counts().spooled
        self.buffer.finish()
        assert not self.buffer.unfinished
        if self.buffer.counts().spooled == spooled + len(waiting):
            self.durable.update(waiting)

    # -- the keeper -------------------------------------------------------------------------------

    @rule()
    def make(self) -> None:
        wanted = self.buffer.segment_wanted()
        if wanted is not None:
            self.ordinal += 1
            self.made.append(Segment(self.folder, self.ordinal, Shape(*wanted)))

    @precondition(lambda self: self.made)
    @rule()
    def hand_over(self) -> None:
        back = self.buffer.supply(self.made.pop())
        if back is not None:
            back.remove()

    @rule()
    def make_and_hand_over(self) -> None:
        """What happens nearly always: callbacks find a segment ready."""
        while self.buffer.segment_wanted() is not None:
            self.make()
            self.hand_over()

    @rule()
    def let_go_waiting(self) -> None:
        for segment in self.buffer.segments()[:-1]:
            segment.let_go()

    # -- the worker -------------------------------------------------------------------------------

    @rule()
    def take(self) -> None:
        piece = self.buffer.take()
        if piece is not None:
            self.cut.append(piece)

    @precondition(lambda self: self.cut)
    @rule(refuse=st.booleans())
    def seal(self, refuse: bool) -> None:
        """Sealing may fail: the piece is uploaded all the same."""
        piece = self.cut.pop(0)
        if isinstance(piece, SegmentPiece) and not refuse:
            piece.segment.seal()
        self.sealed.append(piece)

    @precondition(lambda self: self.sealed)
    @rule(which=st.integers(0, 10))
    def upload(self, which: int) -> None:
        """Several are under way, so they arrive in any order."""
        piece = self.sealed.pop(which % len(self.sealed))
        last = piece.first_seq + piece.events - 1
        artifact = encode_batch(Batch(WRITER, piece.first_seq, last, piece.raw()), "none")
        self.store_object(self.objects, artifact.name, artifact.content)
        self.uploaded.append(piece)

    @precondition(lambda self: self.uploaded)
    @rule()
    def remove_lines_only(self) -> None:
        """Deleting is two steps as well."""
        piece = self.uploaded[0]
        if isinstance(piece, SegmentPiece):
            piece.segment.path.unlink(missing_ok=True)

    @precondition(lambda self: self.uploaded)
    @rule()
    def remove(self) -> None:
        piece = self.uploaded.pop(0)
        if isinstance(piece, SegmentPiece):
            piece.segment.remove()
        self.removed.append(piece)

    @precondition(lambda self: self.removed)
    @rule()
    def settle(self) -> None:
        self.buffer.settle(self.removed.pop(0))

    # -- what must hold ---------------------------------------------------------------------------

    @staticmethod
    def store_object(objects: dict[str, bytes], name: str, content: bytes) -> None:
        """Storing the same key twice is fine with the same bytes only."""
        assert objects.setdefault(name, content) == content, f"{name} has other bytes now"

    @invariant()
    def a_crash_now_loses_nothing(self) -> None:
        objects = dict(self.objects)
        for path in waiting_segments(self.folder):
            plan = plan_segment(path)
            assert not plan.problem and not plan.damaged
            for batch in plan.batches:
                artifact = encode_batch(batch, "none")
                self.store_object(objects, artifact.name, artifact.content)
        found: list[int] = []
        for name, content in objects.items():
            place = parse_artifact_name(name)
            assert place is not None
            assert numbered(content) == list(range(place.first_seq, place.last_seq + 1))
            found += numbered(content)
        assert len(found) == len(set(found)), "doubled"
        assert self.durable <= set(found), f"lost: {sorted(self.durable - set(found))}"
        assert set(found) <= set(range(1, self.accepted + 1)), "invented"

    @invariant()
    def the_equation_holds(self) -> None:
        counts = self.buffer.counts()
        assert counts.accepted == self.accepted
        settled = counts.delivered + counts.dead_lettered
        assert counts.accepted == settled + counts.spooled + counts.pending
        assert counts.dropped.get("buffer_full", 0) == self.dropped
        assert min(counts.spooled, counts.pending, counts.waiting_bytes) >= 0

    @invariant()
    def what_is_called_spooled_is_on_disk(self) -> None:
        held = [*self.buffer.segments()]
        under_way = (*self.cut, *self.sealed, *self.uploaded, *self.removed)
        held += [piece.segment for piece in under_way if isinstance(piece, SegmentPiece)]
        assert self.buffer.counts().spooled == sum(segment.events for segment in held)


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(
    max_examples=int(os.environ.get("SPOOL_EXAMPLES", "80")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class RoomyCrashes(Crashes):
    """The same with room for values."""

    max_bytes = 600_000


TestRoomyCrashes = RoomyCrashes.TestCase
TestRoomyCrashes.settings = TestCrashes.settings
TestCrashes.__doc__ = TestRoomyCrashes.__doc__ = (
    "Whatever was accepted while durable survives a crash after any step, once."
)


def supply(target: Store, segment: Segment) -> Segment | None:
    """Hand over a segment, as the buffer does; it comes back where there is no use for it."""
    piece = target.supply(segment)
    if piece is None:
        return None if target.take_as_spare(segment) else segment
    segment.fill(piece.lines)
    return None if target.moved(piece, segment) else segment


def fill(target: Store, first: int, count: int, size: int = 10) -> None:
    for seq in range(first, first + count):
        target.append(seq, b"x" * (size - 1) + b"\n")


def test_without_a_spool_no_segment_is_wanted() -> None:
    """`durability="memory"` never touches the disk."""
    memory = store(spooled=False)
    assert memory.wanted is None
    fill(memory, 1, 12)
    assert memory.wanted is None and memory.durable_events == 0
    pieces = [piece.events for piece in iter(memory.cut, None)]
    assert pieces == [5, 5, 2]


def test_a_spare_is_ready_before_it_is_needed(tmp_path: Path) -> None:
    """No callback waits for the disk: the next segment is there before this one is full."""
    spooled = store()
    assert spooled.wanted == (PIECE_BYTES, PIECE_EVENTS)
    assert supply(spooled, Segment(tmp_path, 1, Shape(*spooled.wanted))) is None
    assert spooled.wanted is None
    fill(spooled, 1, 1)
    assert spooled.durable_events == 1
    assert spooled.wanted is not None
    assert supply(spooled, Segment(tmp_path, 2, Shape(*spooled.wanted))) is None
    fill(spooled, 2, 8)
    assert spooled.durable_events == spooled.events == 9
    for segment in spooled.segments():
        segment.remove()


def test_a_segment_nobody_wants_comes_back(tmp_path: Path) -> None:
    """Two made at the same time are one too many; it is given back and not leaked."""
    spooled = store()
    first, second = Segment(tmp_path, 1, Shape(600, 5)), Segment(tmp_path, 2, Shape(600, 5))
    assert supply(spooled, first) is None
    assert supply(spooled, second) is second
    assert spooled.take_spare() is first and spooled.take_spare() is None
    first.remove()
    second.remove()


def test_what_waited_in_memory_moves_to_disk_oldest_first(tmp_path: Path) -> None:
    """A disk that has space again takes what it missed, also a line larger than any piece."""
    spooled = store()
    fill(spooled, 1, 5)
    spooled.append(6, b"y" * 5000 + b"\n")
    fill(spooled, 7, 2)
    assert spooled.memory_bytes == spooled.size == 50 + 5001 + 20
    for ordinal, wanted in enumerate([(600, 5), (5001, 5), (600, 5)], 1):
        assert spooled.wanted == wanted
        assert supply(spooled, Segment(tmp_path, ordinal, Shape(*wanted))) is None
    assert spooled.memory_bytes == 0 and spooled.durable_events == 8
    fill(spooled, 9, 3)
    assert spooled.durable_events == 11
    pieces = list(iter(spooled.cut, None))
    assert [(piece.first_seq, piece.events) for piece in pieces] == [(1, 5), (6, 1), (7, 5)]
    assert (spooled.events, spooled.size, spooled.durable_events) == (0, 0, 0)
    for piece in pieces:
        assert isinstance(piece, SegmentPiece)
        piece.segment.remove()


def test_a_segment_too_small_for_what_grew_meanwhile_is_a_spare(tmp_path: Path) -> None:
    """The piece waits for one of its size; nothing is cut off."""
    spooled = store()
    spooled.append(1, b"y" * 5000 + b"\n")
    small = Segment(tmp_path, 1, Shape(600, 5))
    assert supply(spooled, small) is None
    assert spooled.durable_events == 0 and spooled.wanted == (5001, 5)
    assert spooled.take_spare() is small
    small.remove()


@pytest.mark.parametrize("length", [601, 10_000])
def test_a_line_larger_than_the_spare_waits_in_memory(tmp_path: Path, length: int) -> None:
    """It never overruns a segment; the spare stays for the next line."""
    spooled = store()
    assert supply(spooled, Segment(tmp_path, 1, Shape(600, 5))) is None
    spooled.append(1, b"z" * (length - 1) + b"\n")
    assert spooled.durable_events == 0
    spooled.append(2, b"a\n")
    assert spooled.durable_events == 1
    (segment,) = spooled.segments()
    assert segment.first_seq == 2
    segment.remove()


def take_away(segment: Segment) -> None:
    """Close its descriptor, as a daemon does with those it does not know."""
    os.close(segment._file.number)


def test_a_segment_that_takes_no_more_is_left_and_the_spare_goes_on(tmp_path: Path) -> None:
    """The line is in the next segment; the one that failed is named once, and keeps what it has."""
    spooled = store()
    for ordinal in (1, 2):
        assert supply(spooled, Segment(tmp_path, ordinal, Shape(600, 5))) is None
        if ordinal == 1:
            fill(spooled, 1, 2)
    (first,) = spooled.segments()
    take_away(first)
    fill(spooled, 3, 1)
    assert spooled.durable_events == spooled.events == 3 and spooled.memory_bytes == 0
    assert spooled.take_failed() == [first] and spooled.take_failed() == []
    pieces = list(iter(spooled.cut, None))
    assert [(piece.first_seq, piece.events) for piece in pieces] == [(1, 2), (3, 1)]
    assert [len(piece.raw()) for piece in pieces] == [20, 10]
    for piece in pieces:
        assert isinstance(piece, SegmentPiece)
        piece.segment.remove()


def test_a_spare_that_takes_nothing_is_left_and_memory_goes_on(tmp_path: Path) -> None:
    """Nothing is lost with it: it has no line, and comes back to be deleted."""
    spooled = store()
    spare = Segment(tmp_path, 1, Shape(600, 5))
    assert supply(spooled, spare) is None
    take_away(spare)
    fill(spooled, 1, 2)
    assert spooled.durable_events == 0 and spooled.memory_bytes == 20 and spooled.awaits_segment
    assert spooled.take_failed() == [spare] and spare.events == 0
    spare.remove()
    assert supply(spooled, Segment(tmp_path, 2, Shape(600, 5))) is None
    assert spooled.durable_events == 2
    spooled.segments()[0].remove()


def test_lines_stay_in_memory_where_the_disk_does_not_take_them(tmp_path: Path) -> None:
    """A segment that was to take them and could not is said to be of no use."""
    spooled = store()
    fill(spooled, 1, 3)
    useless = Segment(tmp_path, 1, Shape(600, 5))
    take_away(useless)
    with pytest.raises(OSError, match=r"closed by others|Bad file descriptor"):
        supply(spooled, useless)
    useless.remove()
    assert spooled.memory_bytes == 30 and spooled.wanted == (600, 5)
    assert supply(spooled, Segment(tmp_path, 2, Shape(600, 5))) is None
    fill(spooled, 4, 1)
    assert spooled.durable_events == 4
    (segment,) = spooled.segments()
    assert len(segment.content().splitlines()) == 4
    segment.remove()
