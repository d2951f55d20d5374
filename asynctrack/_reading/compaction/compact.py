"""``compact``: many small segments into few sorted Parquet files, each verified.

One file at a time: it reads and checks the segments, writes their events, stores the file, reads it
back from there, and compares the events by checksums. Only then it stores the manifest, which makes
the file count; after that, and only with ``delete``, it deletes the segments. Killed at any point
and run again, it goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from asynctrack._backends.protocol import GoneError
from asynctrack._errors import OptionError, ReadError
from asynctrack._format import compact_manifest_name, compact_prefix
from asynctrack._reading.compaction.parquet_file import (
    FileWriter,
    Segment,
    events_after,
    events_of,
    rows_of,
    verify_file,
)
from asynctrack._reading.extras import load
from asynctrack._reading.merging.fetch import AHEAD, Fetcher
from asynctrack._reading.scratch import Scratch
from asynctrack._reading.sources.compacted import (
    CompactFile,
    CompactStore,
    decode_file,
    read_compacted,
)
from asynctrack._reading.sources.listing import Listing, list_run
from asynctrack._reading.sources.stores import Location, WritableStore

VALUES: Final = ("keep", "resolve")
FILE_BYTES: Final = 1024 * 1024 * 1024
"""Lines of one Parquet file at most, in bytes."""
IDLE: Final = 3600.0
"""Seconds since an open writer's last update until its segments are compacted."""

Progress = Callable[[int], None]
"""Called with how many segments are done."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment that is left alone: its address, why, and whether that is a fault."""

    uri: str
    reason: str
    fault: bool = True


@dataclass(slots=True)
class CompactReport:
    """What ``compact_run`` did.

    Attributes:
        uri: The Run's folder.
        files: Addresses of the Parquet files that were written.
        segments: Segments that are in them.
        events: Events in them.
        segment_bytes: Size of these segments, in bytes.
        file_bytes: Size of the files, in bytes.
        compacted: Segments that had been compacted before.
        fresh: Segments of writers that are still writing; they are left alone.
        deleted: Segments that were deleted.
        deletable: Compacted segments that are still there.
        orphans: Parquet files that a killed compact left, which do not count; ``delete`` deletes
            them.
        kept: Segments that could not be compacted, or not be deleted.
    """

    uri: str
    files: list[str] = field(default_factory=list)
    segments: int = 0
    events: int = 0
    segment_bytes: int = 0
    file_bytes: int = 0
    compacted: int = 0
    fresh: int = 0
    deleted: int = 0
    deletable: int = 0
    orphans: list[str] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


def compact_run(
    location: Location,
    *,
    now: float,
    delete: bool = False,
    values: str = "keep",
    progress: Progress = lambda _: None,
) -> CompactReport:
    """Compact a Run. Blocks.

    Args:
        location: The Run's folder.
        now: The wall clock, in seconds.
        delete: Delete the segments that are compacted and verified.
        values: ``keep`` gives each value a row, and leaves references in the events; ``resolve``
            gives every event all it refers to. What is compacted already stays as it is.
        progress: Called for each segment.

    Raises:
        OptionError: ``values`` is neither.
        MissingExtraError: pyarrow is not installed.
        ReadError: A folder cannot be read or written, or a Parquet file is not what was written.
        BackendError: S3 said no.
    """
    if values not in VALUES:
        raise OptionError("values", values, " or ".join(map(repr, VALUES)))
    pyarrow = load("asynctrack compact", "pyarrow")
    listing = list_run([location])
    problems: list[Any] = []
    before = read_compacted(location, problems)
    report = CompactReport(location.uri)
    report.kept += [Kept(problem.object, problem.reason) for problem in problems]
    done = before.pieces()
    store = cast(WritableStore, location.store)
    segments = list(_segments(location, listing, now, report))
    todo = [segment for segment in segments if segment.name not in done]
    report.compacted = len(segments) - len(todo)
    fetcher = Fetcher(AHEAD)
    new: list[CompactFile] = []
    try:
        for group in _groups(todo):
            file = _write(pyarrow, location, store, group, values, fetcher, report, progress)
            if file is not None:
                new.append(file)
                if delete:  # what was read and checked just now
                    _delete(location, store, file, group, report)
    finally:
        fetcher.close()
    named = {segment.name: segment for segment in segments}
    for file in before.files:
        left = [named[piece.name] for piece in file.pieces if piece.name in named]
        if left and delete and _is_sound(location, store, file, report):
            _delete(location, store, file, left, report, check=True)
    report.deletable = report.compacted + report.segments - report.deleted
    names = {compact_prefix(location.prefix) + file.name for file in new}
    for key in before.orphans:
        if key not in names:
            report.orphans.append(store.uri(key))
            if delete:
                store.remove(key)
    return report


def _segments(
    location: Location, listing: Listing, now: float, report: CompactReport
) -> Iterator[Segment]:
    """Yield the segments that can be compacted: listed, and of writers that are done."""
    receipts = {one.name: one for writer in listing.writers for one in writer.artifacts}
    writing = {
        writer.writer_id
        for writer in listing.writers
        if writer.state != "closed" and writer.updated_unix_nano / 1e9 > now - IDLE
    }
    for writer_id, artifacts in listing.artifacts.items():
        for artifact in artifacts:
            if isinstance(artifact.store, CompactStore):
                continue
            name = artifact.key[len(location.prefix) :]
            if writer_id in writing:
                report.fresh += 1
            elif artifact.sha256 is None:
                reason = "no manifest lists its checksum (yet)"
                report.kept.append(Kept(artifact.uri, reason, fault=False))
            else:
                yield Segment(artifact, name, receipts[name].raw_bytes)


def _groups(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Yield the segments of each file: of one day, by writer and sequence number."""
    days: dict[str, list[Segment]] = {}
    for segment in segments:
        days.setdefault(segment.artifact.place.day, []).append(segment)
    for _, found in sorted(days.items()):
        found.sort(
            key=lambda one: (one.artifact.place.writer_id, one.artifact.place.first_seq, one.name)
        )
        group: list[Segment] = []
        size = 0
        for segment in found:
            if group and size + segment.raw_bytes > FILE_BYTES:
                yield group
                group, size = [], 0
            group.append(segment)
            size += segment.raw_bytes
        yield group


def _write(
    pyarrow: Any,
    location: Location,
    store: WritableStore,
    segments: Sequence[Segment],
    values: str,
    fetcher: Fetcher,
    report: CompactReport,
    progress: Progress,
) -> CompactFile | None:
    """Make a Parquet file of segments, store it, verify it, and store its manifest."""
    prefix = compact_prefix(location.prefix)
    with Scratch("compact") as folder:
        path = folder / "events.parquet"
        writer = FileWriter(pyarrow, path)
        try:
            last: tuple[str, int] = ("", 0)
            count = 0
            fetched = fetcher.fetch(segment.artifact for segment in segments)
            for segment, one in zip(segments, fetched, strict=True):
                place = segment.artifact.place
                after = last[1] if last[0] == place.writer_id else 0
                events, reason = events_of(one, resolve=values == "resolve")
                wanted = events_after(events, after)
                if not reason:
                    rows, reason = rows_of(wanted)
                if reason:
                    report.kept.append(Kept(segment.artifact.uri, reason))
                else:
                    writer.add(segment, rows, after)
                    count += len(wanted)
                    last = (place.writer_id, max(after, place.last_seq))
                progress(1)
        finally:
            writer.close()
        if not writer.pieces:
            return None
        day = segments[0].artifact.place.day
        file = writer.file(day, values)
        store.write(prefix + file.name, path)
    verify_file(prefix, store, file)
    manifest = compact_manifest_name(file.name.rpartition("/")[2].removesuffix(".parquet"))
    store.write(prefix + manifest, file.encode())
    # Read it back as every reader will: what is stored counts.
    if decode_file(store.read(prefix + manifest)) != file:
        raise ReadError(f"{store.uri(prefix + manifest)} is not what was written there")
    names = {piece.name for piece in file.pieces}
    report.files.append(store.uri(prefix + file.name))
    report.segments += len(file.pieces)
    report.events += count
    report.segment_bytes += sum(one.artifact.size for one in segments if one.name in names)
    report.file_bytes += file.size
    return file


def _is_sound(
    location: Location, store: WritableStore, file: CompactFile, report: CompactReport
) -> bool:
    """Tell whether a file of an earlier run is still what it was."""
    try:
        verify_file(compact_prefix(location.prefix), store, file)
    except ReadError as error:
        uri = store.uri(compact_prefix(location.prefix) + file.name)
        report.kept.append(Kept(uri, f"its segments are not deleted: {error}"))
        return False
    return True


def _delete(
    location: Location,
    store: WritableStore,
    file: CompactFile,
    segments: Iterable[Segment],
    report: CompactReport,
    *,
    check: bool = False,
) -> None:
    """Delete segments that are in a verified file.

    Args:
        location: The Run's folder.
        store: Where.
        file: The file.
        segments: The segments.
        report: Gets what was done.
        check: Whether to read each segment first: it may have been stored anew since.
    """
    checksums = {piece.name: piece.sha256 for piece in file.pieces}
    for segment in segments:
        if segment.name not in checksums:
            continue  # it could not be compacted
        key = location.prefix + segment.name
        if check:
            try:
                found = hashlib.sha256(store.read(key)).hexdigest()
            except GoneError:
                continue
            if found != checksums[segment.name]:
                reason = "it has changed since it was compacted: not deleted"
                report.kept.append(Kept(segment.artifact.uri, reason))
                continue
        store.remove(key)
        report.deleted += 1
