"""Values in what waits on this machine: the spool, read while it grows, and dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.index.news import News
from asynctrack._reading.merging.follow import Follower
from asynctrack._reading.run import open_run
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.spool import this_spool
from asynctrack._spool.layout import default_spool_dir
from tests.reading.making import RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of
from tests.reading.valued import entries, prose, stored

TEXT = prose(5_000)
MESSAGES = [{"type": "human", "content": f"{n} {'x' * 800}"} for n in range(30)]
EVENTS = [event(seq, inputs=TEXT, outputs={"m": MESSAGES[: 8 + seq]}) for seq in range(1, 13)]


@pytest.fixture
def spool(folder: RunFolder) -> SpoolFolder:
    """A writer that lives and tracks into the Run."""
    return SpoolFolder(default_spool_dir(), folder_of(folder.path))


@pytest.fixture
def follower(folder: RunFolder) -> Iterator[Follower]:
    """Somebody who follows the Run."""
    folder.artifact(stored(EVENTS[:2]))
    follower = Follower(Found(open_run(folder.path).locations), this_spool())
    yield follower
    follower.close()


def whole(events: Any) -> list[dict[str, Any]]:
    """What events say, but for the version."""
    return [{**one.raw, "v": 1} for one in events]


def test_values_seen_in_an_earlier_look_count(
    follower: Follower, folder: RunFolder, spool: SpoolFolder
) -> None:
    """A segment is read bit by bit: later events refer to values that were read before them, in
    one look, in the next one, and after the segment was sealed."""
    assert whole(follower.last(5)) == EVENTS[:2]
    waiting = entries(EVENTS[2:10])
    segment = spool.segment()
    for lines in waiting[:3]:
        spool.append(segment, *lines)
    found: list[Event] = list(follower.from_spool())
    assert whole(found) == EVENTS[2:5]
    for lines in waiting[3:6]:
        spool.append(segment, *lines)
        found += follower.from_spool()
    spool.append(segment, *waiting[6])
    segment.seal()
    found += follower.from_spool()
    assert whole(found) == EVENTS[2:9]
    assert all(one.spooled and one.inputs is found[0].inputs for one in found)
    assert found[0].outputs["m"][0] is found[-1].outputs["m"][0]
    assert follower.take_problems() == []
    folder.artifact(stored(EVENTS[9:11]))
    (one, two) = follower.from_objects()
    assert whole([one, two]) == EVENTS[9:11]
    assert one.inputs is found[0].inputs


def test_what_waits_is_whole(folder: RunFolder, spool: SpoolFolder) -> None:
    """A Run is read with what waits in the spool; each of its events is whole, and counted."""
    folder.artifact(stored(EVENTS[:2]))
    segment = spool.segment()
    for lines in entries(EVENTS[1:6]):
        spool.append(segment, *lines)
    run = open_run(folder.path)
    assert whole(run.events()) == EVENTS[:6]
    assert run.problems == ()
    assert [one.spooled for one in run.events()] == [False, False, True, True, True, True]


def test_a_viewer_reads_what_is_new_in_a_segment(folder: RunFolder, spool: SpoolFolder) -> None:
    """Who reads a segment from some event on gets the values of those before it."""
    folder.artifact(stored(EVENTS[:1]))
    segment = spool.segment()
    waiting = entries(EVENTS[1:9])
    for lines in waiting[:4]:
        spool.append(segment, *lines)
    problems: list[Any] = []
    news = News(Found(open_run(folder.path).locations), this_spool(), problems.append, lambda: 0.0)
    assert news.look().events == 5
    first = list(news.events())
    assert whole(first) == EVENTS[:5]
    for lines in waiting[4:]:
        spool.append(segment, *lines)
    assert news.look().events == 4
    second = list(news.events())
    assert whole(second) == EVENTS[5:9]
    assert second[0].inputs is first[0].inputs
    assert problems == []


def test_parameters_in_the_spool_are_whole(folder: RunFolder, spool: SpoolFolder) -> None:
    """A parameter that is a large text is whole, wherever in the segment its value stands."""
    folder.artifact([event(1)])
    segment = spool.segment()
    logged = [event(2, inputs=TEXT), event(3, kind="parameters", data={"prompt": TEXT, "t": 1})]
    for lines in entries(logged):
        spool.append(segment, *lines)
    assert open_run(folder.path).parameters == {"prompt": TEXT, "t": 1}


def test_dead_letters_are_whole(folder: RunFolder, spool: SpoolFolder) -> None:
    """Each file of dead letters has the values of its events; the same text is one object."""
    folder.artifact([event(1)])
    spool.dead_letters(stored(EVENTS[2:5]), "no")
    spool.dead_letters(stored(EVENTS[6:8]), "no")
    run = open_run(folder.path)
    found = [one.event for one in run.dead_letter_events()]
    assert whole(found) == [*EVENTS[2:5], *EVENTS[6:8]]
    assert all(one.inputs is found[0].inputs and one.spooled for one in found)
    assert all("cannot be read" not in one.reason for one in run.problems)


def test_a_damaged_value_in_the_spool_is_named(folder: RunFolder, spool: SpoolFolder) -> None:
    """No event is lost where a value is: it is said, and the events have their references."""
    segment = spool.segment()
    folder.artifact([event(1)])
    ((value, _, one),) = entries(EVENTS[1:2])
    spool.append(segment, {**value, "data": 7}, one)
    run = open_run(folder.path)
    (_, found) = run.events()
    assert found.inputs == one["inputs"]
    (problem,) = run.problems
    assert "neither a text" in problem.reason
