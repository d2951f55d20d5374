"""What a dead writer held: brought into segments, which are delivered as any other.

Nobody saw the end of a trace that was held, so it is kept. Its events were not accepted, and have
no number: they get one of a second writer, whose id follows from the first one's. So whoever does
this again, after another death in the midst of it, makes the same.

A trace that was being accepted when the writer died has numbers of that writer's. What of it
did not get into its segments is put there now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from asynctrack._format import line_prefix
from asynctrack._spool.folder import set_aside
from asynctrack._spool.layout import held_files, waiting_segments
from asynctrack._spool.segment_content import read_segment
from asynctrack._spool.segment_format import Header, SegmentError, make_header, make_record

MAX_BYTES: Final = 4 << 20
"""Bytes of one segment that is made; a single larger event has one for itself."""
_DONE: Final = "recovered.json"
"""Says that all that was held is in segments. It goes with the folder."""
_ID: Final = 12
"""Characters of a writer's id that tell its time."""


@dataclass(slots=True)
class _Held:
    """What a journal says.

    Attributes:
        traces: The events of each trace by their place there, with their values.
        decided: The traces that were left out, or accepted.
        kept: Those that were being accepted: first number, and how many events.
    """

    traces: dict[int, dict[int, bytes]] = field(default_factory=dict)
    decided: set[int] = field(default_factory=set)
    kept: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, entry: bytes) -> None:
        """Add a record."""
        head, _, lines = entry.partition(b"\n")
        said = json.loads(head)
        if "held" in said:
            # Written anew, the values before the event may be others.
            self.traces.setdefault(said["held"], {})[said["index"]] = lines
        elif "kept" in said:
            self.kept[said["kept"]] = said["first_seq"], said["events"]
        else:
            self.decided.add(said["left_out"] if "left_out" in said else said["accepted"])


def heir_of(writer_id: str) -> str:
    """Return the id of the writer that has what another one held when it died."""
    return writer_id[:_ID] + blake2b(writer_id.encode(), digest_size=6).hexdigest()


def recover_held(folder: Path) -> None:
    """Make segments of what the dead writer of a folder held; the caller owns the folder. Blocks.

    Raises:
        OSError: The disk refuses; what is held stays as it is.
    """
    paths = held_files(folder)
    done = folder / _DONE
    if done.exists():  # all but for deleting these
        for path in paths:
            path.unlink(missing_ok=True)
        return
    if not paths:
        return
    held, writer_id, unreadable = _read(paths)
    ordinal = max((int(one.stem) for one in folder.glob("*.*") if one.stem.isdecimal()), default=0)
    for segment in _segments(folder, held, writer_id):
        ordinal += 1
        path = folder / f"{ordinal:08d}.sealed"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(segment)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    for path in unreadable:
        set_aside(path, ".damaged")
    done.touch(mode=0o600)  # whoever finds only some of them would number their events anew
    for path in paths:
        path.unlink(missing_ok=True)


def held_events(folder: Path) -> int:
    """Return how many events a writer holds whose fate is open. Blocks; changes nothing.

    Raises:
        OSError: A file cannot be read.
    """
    if (folder / _DONE).exists():
        return 0
    held, _, _ = _read(held_files(folder))
    return sum(len(held.traces[number]) for number in held.traces.keys() - held.decided)


def _read(paths: Iterable[Path]) -> tuple[_Held, str, list[Path]]:
    """Return what a journal says, whose it is, and the files of it that cannot be read."""
    held, writer_id, unreadable = _Held(), "", []
    for path in paths:
        try:
            content = read_segment(path)
        except SegmentError:
            unreadable.append(path)
            continue
        writer_id = content.writer_id or writer_id
        for _, entry in content.lines:
            held.add(entry)
    return held, writer_id, unreadable


def _segments(folder: Path, held: _Held, writer_id: str) -> Iterator[bytes]:
    """Yield the segments that have what is to be kept."""
    left = []
    for number in sorted(held.traces.keys() - held.decided):
        events = held.traces[number]
        if number in held.kept:
            first, count = held.kept[number]
            there = _numbers_in(folder, writer_id, range(first, first + count))
            missing = [
                (first + index, lines)
                for index, lines in sorted(events.items())
                if index < count and first + index not in there
            ]
            yield from _written(writer_id, writer_id, missing)
        else:
            left += [lines for _, lines in sorted(events.items())]
    yield from _written(writer_id, heir_of(writer_id), list(enumerate(left, 1)))


def _numbers_in(folder: Path, writer_id: str, wanted: range) -> set[int]:
    """Return the numbers among these that the writer's segments have."""
    found: set[int] = set()
    for path in waiting_segments(folder):
        try:
            content = read_segment(path)
        except SegmentError:
            continue
        if content.writer_id == writer_id:
            found.update(seq for seq, _ in content.lines if seq in wanted)
    return found


def _written(writer_id: str, new_id: str, events: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield segments of numbered events: one for each unbroken run, and for ``MAX_BYTES``."""
    before, after = line_prefix(writer_id) + b"0,", line_prefix(new_id)
    records: list[bytes] = []
    first = size = 0
    for seq, lines in events:
        start = after + b"%d," % seq
        entry = b"".join(
            start + line[len(before) :] if line.startswith(before) else line
            for line in lines.splitlines(keepends=True)
        )
        if records and (seq != first + len(records) or size + len(entry) > MAX_BYTES):
            yield make_header(Header(new_id, first, len(records))) + b"".join(records)
            records, size = [], 0
        if not records:
            first = seq
        records.append(make_record(len(records), entry))
        size += len(entry)
    if records:
        yield make_header(Header(new_id, first, len(records))) + b"".join(records)
