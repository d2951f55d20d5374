"""What is to be done with a file that a dead writer left: read, and nothing changed on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asynctrack._common.artifact import Batch
from asynctrack._common.lines import Entry, entries_of, is_value, lines_of
from asynctrack._delivery.encode import runs
from asynctrack._format import parse_line_start
from asynctrack._spool.layout import division
from asynctrack._spool.segment_content import read_segment
from asynctrack._spool.segment_format import SegmentError


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """What is to be done with a segment of a writer that has died.

    Attributes:
        path: The file of lines.
        batches: What it becomes: one; or one for each unbroken run of numbers where lines are
            damaged, so that it never takes the key of an object that has them all; or the parts
            that its writer had to make of it.
        events: Good lines in it.
        damaged: Sequence numbers that are lost in it.
        problem: Why it cannot be read at all; empty where it can.
    """

    path: Path
    batches: tuple[Batch, ...] = ()
    events: int = 0
    damaged: tuple[int, ...] = ()
    problem: str = ""


def plan_segment(path: Path) -> SegmentPlan:
    """Read a segment. Blocks; changes nothing on disk, and raises nothing."""
    try:
        content = read_segment(path)
    except (SegmentError, OSError) as error:
        return SegmentPlan(path, problem=str(error))
    batches = tuple(runs(content.writer_id, content.lines, division(path)))
    return SegmentPlan(path, batches, len(content.lines), content.damaged)


def plan_dead_letter(path: Path) -> SegmentPlan:
    """Read a file of dead letters. Blocks; changes nothing on disk, and raises nothing.

    A file that lacks some of what its name says may be one that is being written.
    """
    first, _, last = path.stem.partition("-")
    try:
        raw = path.read_bytes()
    except OSError as error:
        return SegmentPlan(path, problem=str(error))
    wanted = range(int(first), int(last) + 1) if (first + last).isdecimal() else range(0)
    entries = entries_of(raw, wanted.start)
    writer_id = _writer_of(entries) if len(entries) == len(wanted) else None
    if writer_id is None:
        return SegmentPlan(path, problem=f"{path}: not the events that its name says")
    return SegmentPlan(path, tuple(runs(writer_id, entries, division(path))), len(entries))


def _writer_of(entries: list[Entry]) -> str | None:
    """Return whose events these are; None where one of their lines says something else."""
    writers = set()
    for seq, entry in entries:
        lines = lines_of(entry)
        for place in map(parse_line_start, lines):
            if place is None or place[1] != seq:
                return None
            writers.add(place[0])
        if is_value(lines[-1]):  # the event is cut off
            return None
    return writers.pop() if len(writers) == 1 else None


def numbers(seqs: tuple[int, ...]) -> str:
    """Return the first of these numbers, for a message."""
    return ", ".join(map(str, seqs[:10])) + ("…" if len(seqs) > 10 else "")
