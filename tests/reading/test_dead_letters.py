"""Dead letters: events that were refused for good are read apart, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynctrack import DeadLetter, aopen_run, open_run
from asynctrack._reading.sources.dead_letters import dead_letter_ranges
from asynctrack._spool.layout import default_spool_dir
from tests.reading.making import OTHER, RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of


@pytest.fixture
def spool(folder: RunFolder) -> SpoolFolder:
    """A writer that has delivered events of the Run, and had some refused."""
    folder.artifact([event(1), event(2)])
    folder.manifest(refused_ranges=[[3, 5]], accepted=5)
    return SpoolFolder(default_spool_dir(), folder_of(folder.path))


def test_they_are_read_apart_each_once(folder: RunFolder, spool: SpoolFolder) -> None:
    """With the reason; they are no events of the Run, and those in two files come once."""
    first = spool.dead_letters([event(3, inputs="x"), event(4)], "EntityTooLarge: no")
    second = spool.dead_letters([event(4), event(5)], "InvalidRequest: no")
    second.with_suffix(".reason").unlink()
    run = open_run(folder.path)
    found = list(run.dead_letter_events())
    assert all(type(one) is DeadLetter and one.event.spooled for one in found)
    assert [(one.event.seq, one.reason, one.path) for one in found] == [
        (3, "EntityTooLarge: no", str(first)),
        (4, "EntityTooLarge: no", str(first)),
        (5, "", str(second)),
    ]
    assert found[0].event.inputs == "x"
    assert [one.seq for one in run.events()] == [1, 2]
    assert "refused for good (EntityTooLarge: no)" in run.problems[0].reason
    assert "dead_letter_events()" in run.problems[0].reason


@pytest.fixture
def buried(spool: SpoolFolder) -> Path:
    """Two dead letters, made where nothing may block."""
    return spool.dead_letters([event(3), event(4)], "no")


async def test_from_async_code(folder: RunFolder, buried: Path) -> None:
    """The same, without blocking."""
    run = await aopen_run(folder.path)
    assert [one.event.seq async for one in run.adead_letter_events()] == [3, 4]


def test_those_of_other_runs_and_without_a_spool_are_left(
    folder: RunFolder, spool: SpoolFolder
) -> None:
    """Only this Run's, and only of the spool that is given."""
    spool.dead_letters([event(3)], "no")
    other = RunFolder(folder.root, run="two")
    SpoolFolder(
        default_spool_dir(), folder_of(other.path), writer=OTHER, run="two"
    ).dead_letters([event(1, writer=OTHER)], "no")  # fmt: skip
    assert [one.event.seq for one in open_run(folder.path).dead_letter_events()] == [3]
    assert list(open_run(folder.path, spool_dir=False).dead_letter_events()) == []


def test_what_is_damaged_is_named(folder: RunFolder, spool: SpoolFolder) -> None:
    """A line that is no event, and a file that is gone, are problems; the rest is read."""
    path = spool.dead_letters([event(3), event(4), event(5)], "no")
    path.write_bytes(path.read_bytes().replace(b'"seq":4', b'"seq":9'))
    run = open_run(folder.path)
    assert [one.event.seq for one in run.dead_letter_events()] == [3, 5]
    (problem,) = run.problems
    assert (problem.object, problem.line) == (str(path), 2)
    letters = run.dead_letter_events()
    next(letters)
    letters.close()
    ranges = run.dead_letters
    path.unlink()
    assert ranges and run.dead_letters == () and list(run.dead_letter_events()) == []


def test_a_file_with_another_name_is_none(spool: SpoolFolder) -> None:
    """The name says which numbers are in it: what does not is left alone."""
    (spool.path / "x-2.dead").write_bytes(b"?")
    (spool.path / f"{5:012d}-{4:012d}.dead").write_bytes(b"?")
    from asynctrack._reading.sources.spool import spool_writers, this_spool

    (writer,) = spool_writers(this_spool())
    assert dead_letter_ranges(writer) == []
