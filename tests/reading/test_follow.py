"""Following a Run that is being written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asynctrack
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.merging.follow import Follower
from asynctrack._reading.merging.merge import in_order
from asynctrack._reading.run import open_run
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.ranges import SeqSet
from asynctrack._reading.sources.spool import this_spool
from asynctrack._spool.layout import default_spool_dir
from tests.e2e.waiting import until_in_thread
from tests.reading.making import OTHER, START, WRITER, RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of
from tests.support.descriptors import open_below
from tests.support.spoiled import spoil_lines


def numbers(first: int, last: int, **fields: Any) -> list[dict[str, Any]]:
    return [event(seq, **fields) for seq in range(first, last + 1)]


@pytest.fixture
def spool(folder: RunFolder) -> SpoolFolder:
    return SpoolFolder(default_spool_dir(), folder_of(folder.path))


@pytest.fixture
def follower(folder: RunFolder) -> Iterator[Follower]:
    folder.artifact(numbers(1, 5))
    follower = Follower(Found(open_run(folder.path).locations), this_spool())
    yield follower
    follower.close()


def seqs(events: Any) -> list[int]:
    return [one.seq for one in events]


def test_what_was_there_comes_first_and_not_again(follower: Follower, folder: RunFolder) -> None:
    """The last events that are there, as many as asked for; then only what is new."""
    assert seqs(follower.last(3)) == [3, 4, 5]
    assert seqs(follower.from_objects()) == []
    folder.artifact(numbers(6, 7))
    assert seqs(follower.from_objects()) == [6, 7]
    assert seqs(follower.from_objects()) == []


def test_the_spool_is_followed_and_its_delivery_repeats_nothing(
    follower: Follower, folder: RunFolder, spool: SpoolFolder
) -> None:
    """Events come from the segment as they are written; as an object they come no more."""
    segment = spool.segment(numbers(6, 7))
    assert seqs(follower.last(1)) == [7]
    spool.append(segment, event(8))
    (one,) = follower.from_spool()
    assert (one.seq, one.spooled) == (8, True)
    assert list(follower.from_spool()) == []
    spool.append(segment, event(9))
    segment.seal()
    segment.trim()
    folder.artifact(numbers(6, 9))
    segment.remove()
    assert seqs(follower.from_spool()) == [9], "also after it was deleted"
    assert seqs(follower.from_objects()) == []


def test_what_comes_while_it_is_read_is_in_order(follower: Follower, spool: SpoolFolder) -> None:
    """A writer goes on with a segment that was read, and then with the next one: what it wrote to
    the first comes first."""
    follower.last(0)
    first, then = spool.segment(numbers(6, 7)), spool.segment()
    events = follower.from_spool()
    assert seqs([next(events), next(events)]) == [6, 7]
    spool.append(first, event(8))
    spool.append(then, event(9))
    assert seqs(events) == [8, 9]
    spool.append(then, event(10))
    assert seqs(follower.from_spool()) == [10]


def test_a_segment_that_begins_while_the_one_before_is_read(
    follower: Follower, spool: SpoolFolder
) -> None:
    """It is left to the next look, as the one before may have gone on meanwhile."""
    follower.last(0)
    first, then = spool.segment(numbers(6, 7)), spool.segment()
    events, found = follower.from_spool(), list[int]()
    assert seqs([next(events), next(events)]) == [6, 7]
    spool.append(first, event(8))
    for one in events:  # whatever comes in this look
        found.append(one.seq)
        spool.append(first, event(9))
        spool.append(then, event(10))
    found += seqs(follower.from_spool())
    assert found == [8]


def test_a_segment_that_was_too_quick_to_see_is_read_as_an_object(
    follower: Follower, folder: RunFolder, spool: SpoolFolder
) -> None:
    """What left the spool between two looks is listed; what overlaps comes once."""
    follower.last(0)
    spool.segment(numbers(8, 9))
    assert seqs(follower.from_spool()) == [8, 9]
    folder.artifact(numbers(6, 8))
    assert seqs(follower.from_objects()) == [6, 7]


def test_it_is_closed_when_all_writers_are(
    follower: Follower, folder: RunFolder, spool: SpoolFolder
) -> None:
    """Neither a writer that lives here, nor one whose manifest is open, is closed."""
    assert not follower.closed(), "there is no manifest"
    folder.manifest()
    assert not follower.closed() and follower.local, "a writer lives on this machine"
    spool.die()
    assert follower.closed() and not follower.local
    folder.artifact(numbers(1, 1, writer=OTHER), writer=OTHER)
    folder.manifest(OTHER, state="open")
    assert not follower.closed()


def test_many_segments_are_followed_with_few_open_files(
    follower: Follower, spool: SpoolFolder
) -> None:
    """A backlog of sealed segments is read one after the other, and not again."""
    for seq in range(6, 306):
        spool.segment([event(seq)], seal=True)
    found = []
    for one in follower.from_spool():
        found.append(one.seq)
        assert len(open_below(spool.path)) < 10
    assert found == list(range(6, 306))
    assert len(follower._drained) == 300 and follower._segments == {}
    assert list(follower.from_spool()) == []


def test_damage_is_told_once(follower: Follower, spool: SpoolFolder) -> None:
    """A damaged record between sound ones is a problem, and the others come."""
    segment = spool.segment(numbers(6, 8))
    spoil_lines(segment.path, 1)
    assert seqs(follower.from_spool()) == [6, 8]
    (problem,) = follower.take_problems()
    assert problem.reason == "event 7 is damaged"
    assert follower.take_problems() == []


def test_a_tracker_is_followed_to_its_end(tmp_path: Path) -> None:
    """Every event of a real tracker comes exactly once, in order, whatever the spool does."""
    found: list[Event] = []
    with asynctrack.tracker(tmp_path / "runs", max_batch_events=7, max_delay=0.05) as handler:
        handler.log_metric("n", 0)
        until_in_thread(lambda: any(tmp_path.glob("runs/asynctrack/v1/*/run=*")))
        located = Found(open_run(tmp_path / "runs").locations)
        follower = Follower(located, this_spool())
        for number in range(1, 200):
            handler.log_metric("n", number)
            if number % 3 == 0:
                found += follower.from_spool()
            if number % 50 == 0:
                found += follower.from_objects()
        found += follower.from_spool()
    found += follower.from_spool()
    found += follower.from_objects(all_days=True)
    assert follower.closed()
    follower.close()
    values = [one.data["value"] for one in found if one.event == "metric"]
    assert sorted(values) == list(range(200))
    assert [(one.writer_id, one.seq) for one in found if one.spooled] == sorted(
        (one.writer_id, one.seq) for one in found if one.spooled
    )


def test_in_order_is_by_time_and_keeps_each_writers_order() -> None:
    """Two writers are merged by the clock; one whose clock was set back keeps its order."""
    times = {(WRITER, 1): 10, (WRITER, 2): 5, (WRITER, 3): 30, (OTHER, 1): 20, (OTHER, 2): 40}
    events = [
        Event(event(seq, writer=writer, time=START + time)) for (writer, seq), time in times.items()
    ]
    found = [(one.writer_id[0], one.seq) for one in in_order(events)]
    assert found == [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2)]


def test_a_seq_set_is_what_a_set_is() -> None:
    """Ranges that touch, overlap or enclose each other are one."""
    import random

    chance = random.Random(5)
    for _ in range(200):
        numbers, plain = SeqSet(), set()
        for _ in range(12):
            first = chance.randint(1, 40)
            last = first + chance.randint(0, 6)
            numbers.add(first, last)
            plain.update(range(first, last + 1))
        assert {seq for seq in range(60) if seq in numbers} == plain
        low, high = sorted((chance.randint(1, 50), chance.randint(1, 50)))
        assert numbers.covers(low, high) == all(seq in plain for seq in range(low, high + 1))
        assert all(b > a + 1 for a, b in zip(numbers._lasts, numbers._firsts[1:], strict=False))
