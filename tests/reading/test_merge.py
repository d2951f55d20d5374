"""Artifacts of several writers to one stream."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack._reading.run import RecordedRun, open_run
from tests.reading.making import DAY, START, WRITER, RunFolder, event

WRITERS = ("a" * 24, "b" * 24, "c" * 24)
NANOS_OF_DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Plan:
    """What the writers of a Run wrote."""

    times: dict[str, list[int]]
    """Of each writer, the time of each event, by sequence number."""
    pieces: dict[str, list[tuple[int, int]]]
    """Of each writer, the first and last number of each artifact; they may overlap."""


@st.composite
def plans(draw: st.DrawFn, *, overlap: bool) -> Plan:
    times: dict[str, list[int]] = {}
    pieces: dict[str, list[tuple[int, int]]] = {}
    for writer in draw(st.sets(st.sampled_from(WRITERS), min_size=1)):
        steps = st.integers(-20, 100) if draw(st.booleans()) else st.integers(0, 100)
        at = START + draw(st.integers(0, 500)) + 1_000
        times[writer] = [at := at + step for step in draw(st.lists(steps, min_size=1, max_size=30))]
        last = len(times[writer])
        cuts = sorted(draw(st.sets(st.integers(1, last))) | {last})
        pieces[writer] = list(zip([1, *(cut + 1 for cut in cuts[:-1])], cuts, strict=True))
        if overlap:
            bounds = st.tuples(st.integers(1, last), st.integers(1, last)).map(sorted)
            more = draw(st.lists(bounds.map(lambda pair: (pair[0], pair[1])), max_size=4))
            pieces[writer] = sorted({*pieces[writer], *more})
    return Plan(times, pieces)


def store(plan: Plan, folder: RunFolder) -> None:
    for writer, times in plan.times.items():
        for first, last in plan.pieces[writer]:
            numbers = range(first, last + 1)
            events = [event(seq, writer=writer, time=times[seq - 1]) for seq in numbers]
            folder.artifact(events, writer=writer)
        folder.manifest(writer, created_unix_nano=START)


def expected(plan: Plan) -> list[tuple[str, int]]:
    """The order the documentation promises, worked out the slow way."""
    rows = []
    for writer, times in plan.times.items():
        rows += [(max(times[:seq]), writer, seq) for seq in range(1, len(times) + 1)]
    return [(writer, seq) for _, writer, seq in sorted(rows)]


@settings(deadline=None, max_examples=60)
@given(plan=plans(overlap=True))
def test_any_interleaving_gives_each_event_once_in_order(plan: Plan) -> None:
    """However writers interleave and artifacts overlap, each event comes once, in order."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        store(plan, folder)
        run = open_run(name)
        assert [(one.writer_id, one.seq) for one in run.events()] == expected(plan)
        assert run.problems == ()


@settings(deadline=None, max_examples=40)
@given(plan=plans(overlap=False), data=st.data())
def test_a_damaged_file_costs_only_its_own_events(plan: Plan, data: st.DataObject) -> None:
    """When one artifact is damaged or lost, all other events come, and it is named."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        store(plan, folder)
        files = sorted(folder.path.glob("dt=*/*"))
        victim = data.draw(st.sampled_from(files))
        content = victim.read_bytes()
        how = data.draw(st.sampled_from(["cut", "flip", "empty", "delete"]))
        at = data.draw(st.integers(0, len(content) - 1))
        if how == "delete":
            victim.unlink()
        elif how == "flip":
            victim.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        else:
            victim.write_bytes(content[:at] if how == "cut" else b"")
        run = open_run(name, damaged="set_aside")
        found = [(one.writer_id, one.seq) for one in run.events()]
        writer, first, last = victim.name.removesuffix(".jsonl.zst").split("-")
        lost = {(writer, seq) for seq in range(int(first), int(last) + 1)}
        assert set(found) == set(expected(plan)) - lost
        assert [problem.object for problem in run.problems] == [str(victim)]


def ids(run: RecordedRun) -> list[tuple[str, int]]:
    return [(one.writer_id[0], one.seq) for one in run.events()]


def test_writers_of_several_days(folder: RunFolder) -> None:
    """A writer of an earlier day comes first, whatever its name, and one that goes on over
    midnight is merged with the one that begins then."""
    long, late, early = WRITERS
    spread: Sequence[tuple[str, list[tuple[int, int]], str]] = (
        (long, [(1, 2 * NANOS_OF_DAY - 1), (2, 2 * NANOS_OF_DAY + 5)], "2026-01-02"),
        (late, [(1, 2 * NANOS_OF_DAY + 3)], "2026-01-03"),
        (early, [(1, 7)], DAY),
    )
    for writer, events, day in spread:
        made: list[dict[str, Any]] = [
            event(seq, writer=writer, time=START + at) for seq, at in events
        ]
        folder.artifact(made, writer=writer, day=day)
    assert ids(open_run(folder.root)) == [("c", 1), ("a", 1), ("b", 1), ("a", 2)]


def test_what_a_lost_manifest_listed_is_read(folder: RunFolder) -> None:
    """Without any manifest the events are read from the artifacts alone, a month 13 included."""
    folder.artifact([event(1)], day="2026-13-01")
    folder.artifact([event(2)], suffix=".gz")
    folder.artifact([event(3)], suffix="")
    run = open_run(folder.root)
    assert ids(run) == [("a", 1), ("a", 2), ("a", 3)]
    assert run.manifest.writers == ()
    assert run.problems == ()


def test_another_copy_replaces_the_damaged_one(folder: RunFolder) -> None:
    """Where an event is stored twice and one copy cannot be read, the other one is."""
    events = [event(seq) for seq in range(1, 5)]
    folder.artifact(events)
    broken = folder.artifact(events, day="2026-01-02", listed=False)
    broken.write_bytes(broken.read_bytes()[:20])
    folder.manifest(WRITER)
    run = open_run(folder.root)
    assert ids(run) == [("a", seq) for seq in range(1, 5)]
    assert [problem.object for problem in run.problems] == [str(broken)]
