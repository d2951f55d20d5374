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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Final

from asynctrack._common.lines import Entry, lines_of, parts
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
        decided: The traces that were left out, or accepted and stored elsewhere.
        kept: Those that were being accepted: first number, and how many events.
        stored: Of these, how many events are safe already.
    """

    traces: dict[int, dict[int, bytes]] = field(default_factory=dict)
    decided: set[int] = field(default_factory=set)
    kept: dict[int, tuple[int, int]] = field(default_factory=dict)
    stored: dict[int, int] = field(default_factory=dict)

    def add(self, entry: bytes) -> None:
        """Add a record."""
        head, _, lines = entry.partition(b"\n")
        said = json.loads(head)
        if "held" in said:
            # Written anew, the values before the event may be others.
            self.traces.setdefault(said["held"], {})[said["index"]] = lines
        elif "kept" in said:
            self.kept[said["kept"]] = said["first_seq"], said["events"]
        elif "stored" in said:
            trace, events = said["stored"], said["events"]
            self.stored[trace] = max(events, self.stored.get(trace, 0))  # a late one may be older
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
    held, writer_id, _ = _read(held_files(folder))
    own, inherited = _rests(folder, held, writer_id)
    return sum(len(rest.missing) for rest in (*own, *inherited))


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


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is to be kept of a trace.

    Attributes:
        entries: Its events, numbered.
        missing: The numbers of those that only the journal has.
    """

    entries: list[Entry]
    missing: Collection[int]


def _segments(folder: Path, held: _Held, writer_id: str) -> Iterator[bytes]:
    """Yield the segments that have what is to be kept."""
    own, inherited = _rests(folder, held, writer_id)
    yield from _written(writer_id, own)
    yield from _written(heir_of(writer_id), inherited)


def _rests(folder: Path, held: _Held, writer_id: str) -> tuple[list[_Rest], list[_Rest]]:
    """Return of the undecided traces those that were being accepted, and the heir's."""
    own, inherited = [], []
    undecided = held.traces.keys() - held.decided
    there = _numbers_in(folder, writer_id) if undecided & held.kept.keys() else set()
    before, heir = line_prefix(writer_id), line_prefix(heir_of(writer_id))
    next_seq = 1
    for number in sorted(undecided):
        events = held.traces[number]
        if number in held.kept:
            first, count = held.kept[number]
            entries = [
                (first + index, _numbered(events[index], before, before, first + index))
                for index in sorted(events)
                if index < count
            ]
            safe = first + held.stored.get(number, 0)
            missing = {seq for seq, _ in entries if seq >= safe and seq not in there}
            own.append(_Rest(entries, missing))
        else:
            entries = [
                (seq, _numbered(events[index], before, heir, seq))
                for seq, index in enumerate(sorted(events), next_seq)
            ]
            inherited.append(_Rest(entries, range(next_seq, next_seq + len(entries))))
            next_seq += len(entries)
    return own, inherited


def _numbered(entry: bytes, before: bytes, after: bytes, seq: int) -> bytes:
    """Return an entry of the journal as that of a writer, under a number."""
    unnumbered, start = before + b"0,", after + b"%d," % seq
    return b"".join(
        start + line[len(unnumbered) :] if line.startswith(unnumbered) else line
        for line in lines_of(entry)
    )


def _numbers_in(folder: Path, writer_id: str) -> set[int]:
    """Return the numbers that the writer's segments have."""
    found: set[int] = set()
    for path in waiting_segments(folder):
        try:
            content = read_segment(path)
        except SegmentError:
            continue
        if content.writer_id == writer_id:
            found.update(seq for seq, _ in content.lines)
    return found


def _written(writer_id: str, rests: Iterable[_Rest]) -> Iterator[bytes]:
    """Yield segments of what is missing: one for each unbroken run, and for ``MAX_BYTES``. Each is
    complete: it has the values that its events refer to."""
    records: list[bytes] = []
    first = size = 0
    for part in chain.from_iterable(map(_missing_parts, rests)):
        length = sum(len(entry) for _, entry in part)
        if records and (part[0][0] != first + len(records) or size + length > MAX_BYTES):
            yield make_header(Header(writer_id, first, len(records))) + b"".join(records)
            records, size = [], 0
        if not records:
            first = part[0][0]
        records += [make_record(at, entry) for at, (_, entry) in enumerate(part, len(records))]
        size += length
    if records:
        yield make_header(Header(writer_id, first, len(records))) + b"".join(records)


def _missing_parts(rest: _Rest) -> Iterator[list[Entry]]:
    """Yield what is missing of a trace in parts, each complete in itself."""
    cuts, size, was_missing = set(), 0, None
    for seq, entry in rest.entries:
        size += len(entry)
        is_missing = seq in rest.missing
        if is_missing is not was_missing or size > MAX_BYTES:
            cuts.add(seq)
            size = len(entry)
        was_missing = is_missing
    return (part for part in parts(rest.entries, cuts) if part[0][0] in rest.missing)
