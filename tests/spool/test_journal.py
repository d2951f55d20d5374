"""The journal of held traces: whenever the process dies, it has those that were not decided, and
those that are nowhere else yet."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack._buffer.buffer import SEGMENT_WAIT, Buffer
from asynctrack._buffer.holding import HeldTrace, Holding
from asynctrack._buffer.store import SegmentPiece, Store
from asynctrack._format import number_line
from asynctrack._spool import journal as module
from asynctrack._spool.folder import WriterFolder
from asynctrack._spool.journal import Journal
from asynctrack._spool.layout import HELD, held_files, waiting_segments
from asynctrack._spool.recovery import heir_of, held_events, recover_held
from asynctrack._spool.segment import Shape
from asynctrack._spool.segment_content import read_segment
from tests.buffer.test_buffer import WRITER, make
from tests.buffer.test_holding import body, holding_of, put
from tests.property.strategies import quick

CAPACITY = 4_096
RESERVE = 1_024
PIECE_EVENTS = 4


class Held:
    """A holding with a journal on disk, which is served when it asks, and a spool of small segments
    below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = WriterFolder(folder)
        self.now = 0.0
        self.buffer = Buffer(
            writer_id=WRITER,
            store=Store(WRITER, 10**6, PIECE_EVENTS, spooled=True),
            max_bytes=10**7,
            max_events=10**6,
            spool_bytes=10**9,
            wake=lambda: None,
            monotonic=lambda: self.now,
        )
        self.holding: Holding = holding_of(self.buffer, 10**7)
        self.delivered: list[tuple[int, bytes]] = []
        self.in_flight: list[tuple[int, bytes]] = []
        """Uploaded from memory, without an answer yet."""
        self.journal = Journal(WRITER, lambda: None)
        self.holding.journal = self.journal

    def serve(self) -> None:
        """What the keeper does."""
        while (done := self.journal.next_done()) is not None:
            done.remove()
        while (wanted := self.journal.wanted) is not None:
            segment = self.folder.new_segment(Shape(*wanted, ending=HELD))
            self.holding.supplied(lambda segment=segment: self.journal.take(segment))
        self.holding.finish()

    def supply(self) -> None:
        """Make one segment, where one is wanted."""
        if (wanted := self.buffer.segment_wanted()) is not None:
            segment = self.folder.new_segment(Shape(*wanted, *self.buffer.lines_in_memory()))
            assert self.buffer.supply(segment) is None

    def deliver(self) -> None:
        """Deliver one piece as the worker does, and delete it; from memory it only begins to."""
        piece = self.buffer.take()
        if piece is None:
            return
        self.holding.note_stored()
        lines = piece.raw().splitlines()
        numbered = [(piece.first_seq + at, bare(line)) for at, line in enumerate(lines)]
        if isinstance(piece, SegmentPiece):
            self.delivered += numbered
            piece.segment.remove()
            self.buffer.settle(piece)
        else:
            self.in_flight += numbered

    def hang(self) -> None:
        """Deliver what waits for its segment for too long."""
        self.now += 2 * SEGMENT_WAIT
        self.deliver()

    def close(self) -> None:
        """End without a word, as the process."""
        done = iter(self.journal.next_done, None)
        spare = self.buffer.take_spare()
        for segment in [
            *self.journal.segments(), self.journal._spare, *done, *self.buffer.segments(), spare,
        ]:  # fmt: skip
            if segment is not None:
                segment.let_go()
        self.folder.abandon()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    one = Held(tmp_path / "writer")
    one.serve()
    yield one
    one.close()


def bare(line: bytes) -> bytes:
    """The body of a line."""
    return b'{"time' + line.partition(b'"time')[2].rstrip()


def on_disk(folder: Path, writer_id: str) -> list[tuple[int, bytes]]:
    """A writer's numbered bodies in the segments."""
    found = []
    for path in waiting_segments(folder):
        content = read_segment(path)
        assert not content.damaged
        if content.writer_id == writer_id:
            found += [(seq, bare(entry)) for seq, entry in content.lines]
    return found


def recovered(folder: Path) -> list[bytes]:
    """The bodies of the heir's events; what is said to be held is what gets on disk."""
    said = held_events(folder)
    before = len(on_disk(folder, WRITER))
    recover_held(folder)
    found = on_disk(folder, heir_of(WRITER))
    assert [seq for seq, _ in found] == [*range(1, len(found) + 1)], "numbered without a gap"
    assert len(found) + len(on_disk(folder, WRITER)) - before == said
    return [one for _, one in found]


def test_a_decided_trace_is_not_in_it(held: Held) -> None:
    """Of three traces, one left out and one accepted, the third is recovered, as it was given."""
    traces = [held.holding.begin() for _ in range(3)]
    for number, trace in enumerate(traces):
        put(held.holding, trace, body(number, 1), body(number, 2))
    held.supply()
    traces[0].root_ended(failed=False)
    traces[1].root_ended(failed=True)
    assert held_events(held.folder.path) == 2
    assert recovered(held.folder.path) == [body(2, 1), body(2, 2)]
    assert held_files(held.folder.path) == []
    assert on_disk(held.folder.path, WRITER) == [(1, body(1, 1)), (2, body(1, 2))]


def test_one_that_is_accepted_into_memory_is_in_it(held: Held) -> None:
    """Until its segment is there: then whatever happens it is there once, under its numbers."""
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1), body(0, 2))
    trace.root_ended(failed=True)
    assert held.buffer.counts().pending == held_events(held.folder.path) == 2
    held.supply()
    assert held_events(held.folder.path) == 0, "the segment has it"
    held.deliver()
    assert recovered(held.folder.path) == on_disk(held.folder.path, WRITER) == []


class Unready:
    """An event that the worker has to finish; it may refer to a value."""

    def __init__(self, body: bytes, value: str = "") -> None:
        self.body, self.ready, self.value = body, False, value

    def __len__(self) -> int:
        return len(self.body)

    def prepare(self) -> None:
        self.ready = True

    def missing(self, held: Mapping[str, int]) -> int:
        return 0

    def lines(self, prefix: bytes, seq: int, held: Mapping[str, int]) -> bytes:
        value = b""
        if self.value and self.value not in held:
            value = b'%b%d,"time_unix_nano":1,"event":"value","name":"%b","data":"v"}\n' % (
                prefix, seq, self.value.encode(),
            )  # fmt: skip
        return value + number_line(prefix, seq, self.body)

    def hold(self, held: dict[str, int]) -> None:
        held[self.value] = 1


def test_one_that_waits_behind_an_unfinished_event_is_in_it(held: Held) -> None:
    """The segment is there, but what comes behind an event that the worker has to finish is in
    memory until then."""
    held.supply()
    held.buffer.put_nowait(Unready(body(9, 1)))
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1))
    trace.root_ended(failed=True)
    held.holding.note_stored()
    assert held_events(held.folder.path) == 1
    held.buffer.finish()
    held.holding.note_stored()
    assert held_events(held.folder.path) == 0


def test_one_that_is_in_memory_is_recovered_under_its_numbers(held: Held) -> None:
    """Killed before its segment is there, it has the numbers that it had."""
    held.buffer.put_nowait(body(9, 1))
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1), body(0, 2))
    trace.root_ended(failed=True)
    assert recovered(held.folder.path) == []
    assert on_disk(held.folder.path, WRITER) == [(2, body(0, 1)), (3, body(0, 2))]


def test_of_one_whose_beginning_was_delivered_the_rest_is_in_it(held: Held) -> None:
    """What is recovered is what neither a segment has nor one had that is deleted."""
    held.supply()
    trace = held.holding.begin()
    bodies = [body(0, index) for index in range(PIECE_EVENTS + 3)]
    put(held.holding, trace, *bodies)
    trace.root_ended(failed=True)
    held.deliver()
    assert len(held.delivered) == PIECE_EVENTS
    assert recovered(held.folder.path) == []
    assert [*held.delivered, *on_disk(held.folder.path, WRITER)] == [*enumerate(bodies, 1)]


def test_what_is_uploaded_from_memory_is_not_in_it(held: Held) -> None:
    """Where a disk hangs, it is in memory only, as any other event; nobody recovers what may have
    been delivered."""
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1))
    trace.root_ended(failed=True)
    held.deliver()
    assert held.delivered == [] and held_events(held.folder.path) == 1, "it waits for a segment"
    held.hang()
    assert [one for _, one in held.in_flight] == [body(0, 1)]
    assert recovered(held.folder.path) == on_disk(held.folder.path, WRITER) == []


def test_what_waits_for_its_segment_is_noted_once(held: Held) -> None:
    """However often the worker looks, the journal does not fill up with it."""
    held.supply()
    trace = held.holding.begin()
    put(held.holding, trace, *(body(0, index) for index in range(PIECE_EVENTS + 1)))
    trace.root_ended(failed=True)
    (segment,) = held.journal.segments()
    used = segment.used
    for _ in range(3):
        held.holding.note_stored()
    assert segment.used == used
    held.supply()
    held.holding.note_stored()
    assert segment.used > used


def test_what_comes_late_and_finds_no_room_is_a_trace_of_its_own(tmp_path: Path) -> None:
    """It takes the place of none of those before it that are in memory only."""
    held = Held(tmp_path / "writer")
    held.serve()
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1), body(0, 2))
    trace.root_ended(failed=True)
    held.buffer._room._spool_bytes = 1
    held.holding.do(lambda: held.holding._put(trace, body(0, 3), None))  # it had begun before
    held.serve()
    assert recovered(held.folder.path) == [body(0, 3)]
    assert on_disk(held.folder.path, WRITER) == [(1, body(0, 1)), (2, body(0, 2))]
    held.close()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """A journal of small files."""
    monkeypatch.setattr(module, "CAPACITY", CAPACITY)
    monkeypatch.setattr(module, "RESERVE", RESERVE)
    one = Held(tmp_path / "writer")
    one.serve()
    yield one
    one.close()


def test_files_go_when_nothing_in_them_is_held(small: Held) -> None:
    """Thousands of traces that end well leave two files at the most; a long one among them is
    written anew, and stays whole."""
    long = small.holding.begin()
    put(small.holding, long, body(0, 1))
    most = 0
    for number in range(1, 2_000):
        trace = small.holding.begin()
        put(small.holding, trace, body(number, 1, 100))
        small.serve()
        trace.root_ended(failed=False)
        if number % 500 == 0:
            put(small.holding, long, body(0, 1 + number // 500))
        most = max(most, len(held_files(small.folder.path)))
    assert most <= module.SPARE_FILES + 4
    assert recovered(small.folder.path) == [body(0, index) for index in range(1, 5)]


def traffic(held: Held, traces: int) -> None:
    """So many traces that end well."""
    for number in range(traces):
        trace = held.holding.begin()
        put(held.holding, trace, body(100 + number, 1, 300))
        held.serve()
        trace.root_ended(failed=False)


@pytest.mark.parametrize("length", [1_000, 1_400, 2_500])
def test_a_trace_of_many_files_is_written_anew_now_and_then(small: Held, length: int) -> None:
    """All that it was in before goes then, and what it is in now does not make it be written once
    more; however badly its events fit into files."""
    long = small.holding.begin()
    bodies = [body(0, index, length) for index in range(40)]
    for one in bodies:
        put(small.holding, long, one)
        small.serve()
    traffic(small, 300)
    made = small.folder.last_ordinal
    traffic(small, 100)
    needed = 40 * (length + 200) // CAPACITY
    assert small.folder.last_ordinal - made < 100 + needed
    assert len(held_files(small.folder.path)) <= module.SPARE_FILES + 4 * needed
    assert recovered(small.folder.path) == bodies


def test_what_is_written_anew_has_its_values(small: Held) -> None:
    """Also where an event waited to be written at that time: the value stands before the first one
    that refers to it."""
    long, name = small.holding.begin(), "a" * 32
    put(small.holding, long, Unready(body(0, 0), name))  # the worker has to finish it
    small.serve()
    while (
        len(small.journal._files) <= module.SPARE_FILES
    ):  # the next one that is put finds too many
        small.serve()
        trace = small.holding.begin()
        put(small.holding, trace, body(100, 1, 300))
        trace.root_ended(failed=False)
    put(small.holding, long, Unready(body(0, 1), name))
    assert small.journal._worn and small.holding.unfinished
    small.serve()
    assert not small.journal._worn
    recover_held(small.folder.path)
    with_value = []
    for path in waiting_segments(small.folder.path):
        with_value += [seq for seq, entry in read_segment(path).lines if b'"value"' in entry]
    assert with_value == [1]
    assert [seq for seq, _ in on_disk(small.folder.path, heir_of(WRITER))] == [1, 2]


def test_an_event_larger_than_a_file(held: Held) -> None:
    """It gets a file of its size, and what comes behind it waits for that."""
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1, 2 << 20), body(0, 2))
    assert held.holding.unfinished
    held.serve()
    assert not held.holding.unfinished
    assert recovered(held.folder.path) == [body(0, 1, 2 << 20), body(0, 2)]


def test_an_event_that_does_not_fit_behind_little(held: Held) -> None:
    """It gets the next file, though the present one is far from full, and nothing waits behind
    it."""
    trace = held.holding.begin()
    bodies = [body(0, 1, 300_000), body(0, 2, 800_000), body(0, 3)]
    put(held.holding, trace, *bodies)
    assert held.holding.unfinished
    held.serve()
    assert not held.holding.unfinished
    assert recovered(held.folder.path) == bodies


def test_without_a_file_they_are_held_in_memory(tmp_path: Path) -> None:
    """Where the disk refuses, traces are decided as ever, and what waits to be written does not
    pile up."""
    held = Held(tmp_path / "writer")
    first = held.holding.begin()
    put(held.holding, first, body(0, 1))
    for number in range(1, 3_000):
        trace = held.holding.begin()
        put(held.holding, trace, body(number, 1))
        trace.root_ended(failed=number == 7)
    assert held.buffer.counts().accepted == 1
    assert len(held.holding._unwritten) < 1_100
    held.serve()
    assert recovered(held.folder.path) == [body(0, 1)]
    held.close()


def test_a_disk_that_refuses_is_not_asked_for_each_event(tmp_path: Path) -> None:
    """The worker is woken when a file is wanted for the first time; it tries again by itself."""
    held = Held(tmp_path / "writer")
    woken: list[None] = []
    held.holding._wake = held.journal._wake = lambda: woken.append(None)
    trace = held.holding.begin()
    put(held.holding, trace, *(body(0, number) for number in range(100)))
    assert len(woken) == 1
    held.serve()
    assert not held.holding.unfinished
    held.close()


@pytest.fixture
def roomless(tmp_path: Path) -> Iterator[tuple[Held, HeldTrace]]:
    """A trace that has failed and finds no room in the buffer; nothing of it was written before."""
    held = Held(tmp_path / "writer")
    held.buffer = make(max_events=2)
    held.holding = holding_of(held.buffer, 500)
    held.holding.journal = held.journal
    held.buffer.put_nowait(body(9, 1))
    trace = held.holding.begin()
    put(held.holding, trace, body(0, 1), body(0, 2))
    trace.root_ended(failed=True)
    held.serve()
    yield held, trace
    held.close()


def test_a_trace_that_waits_for_room_is_in_it(roomless: tuple[Held, HeldTrace]) -> None:
    """What was not written when its root failed is written then, as nothing else has it."""
    held, _ = roomless
    assert held.holding.events == 2
    assert recovered(held.folder.path) == [body(0, 1), body(0, 2)]


def test_a_trace_that_is_dropped_without_room_is_not_in_it(
    roomless: tuple[Held, HeldTrace],
) -> None:
    """It is counted as dropped, so whoever comes next does not find it."""
    held, _ = roomless
    put(held.holding, held.holding.begin(), body(1, 1, 400))
    assert held.buffer.counts().dropped == {"buffer_full": 2}
    held.serve()
    assert recovered(held.folder.path) == [body(1, 1, 400)]


OFTEN = ("put", "put", "failed", "failed", "serve", "serve", "supply", "supply", "deliver")
ACTIONS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([*OFTEN, "large", "ok", "deliver", "hang"])),
    max_size=80,
)


@settings(quick, max_examples=50)
@given(ACTIONS)
def test_killed_at_any_time(actions: list[tuple[int, str]]) -> None:
    """After whatever has happened, what is recovered is each undecided trace, once the journal was
    served; and each that failed was delivered or is on disk, once, wherever its events were."""
    top = Path(tempfile.mkdtemp())
    with patch.object(module, "CAPACITY", CAPACITY), patch.object(module, "RESERVE", RESERVE):
        held = Held(top / "writer")
        traces: dict[int, HeldTrace] = {}
        given_: dict[int, list[bytes]] = {}
        number = 0
        failed: list[list[bytes]] = []
        for name, what in [*actions, (0, "serve")]:
            if what in ("serve", "supply", "deliver", "hang"):
                getattr(held, what)()
                continue
            if name not in traces or traces[name].left_out is not None:
                number += 1
                traces[name], given_[name] = held.holding.begin(), []
            trace = traces[name]
            if what in ("put", "large"):
                one = body(trace.number, len(given_[name]), 1_500 if what == "large" else 20)
                given_[name].append(one)
                put(held.holding, trace, one)
            else:
                if what == "failed":
                    held.serve()  # what is not in the journal is in memory, as all that fails then
                    failed.append(given_[name])
                trace.root_ended(failed=what == "failed")
        wanted = sorted(
            (one for one in traces if traces[one].left_out is None),
            key=lambda one: traces[one].number,
        )
        held.close()
        assert recovered(top / "writer") == [one for name in wanted for one in given_[name]]
        there = sorted([*held.delivered, *held.in_flight, *on_disk(top / "writer", WRITER)])
        assert there == [*enumerate((one for bodies in failed for one in bodies), 1)]
    shutil.rmtree(top)
