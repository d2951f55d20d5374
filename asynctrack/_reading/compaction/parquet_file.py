"""A Parquet file of segments: writes its rows, notes where each segment is, and verifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asynctrack._common import payload
from asynctrack._errors import ReadError
from asynctrack._format import compact_name
from asynctrack._reading.decoding.events import (
    Damage,
    Event,
    StoredEvent,
    json_text,
    read_events,
)
from asynctrack._reading.decoding.parquet_rows import NAMES, line_of, row_of, schema_of
from asynctrack._reading.extras import load
from asynctrack._reading.merging.fetch import Fetched
from asynctrack._reading.sources.compacted import CompactFile, CompactStore, Piece
from asynctrack._reading.sources.listing import StoredArtifact
from asynctrack._reading.sources.stores import WritableStore

GROUP_BYTES: Final = 8 * 1024 * 1024
GROUP_ROWS: Final = 20_000
"""Lines of one row group at most, in bytes, and how many; a segment is never split."""
SEGMENT_BYTES: Final = 512 * 1024 * 1024
"""Lines of one segment at most, in bytes: with values resolved, they may be many times what is
stored."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that is compacted.

    Attributes:
        artifact: Where it is.
        name: Its key below the Run's folder.
        raw_bytes: Size of its lines, in bytes.
    """

    artifact: StoredArtifact
    name: str
    raw_bytes: int


Rows = list[tuple[tuple[Any, ...], bytes]]
"""Rows of a file, each with its line."""


def events_of(fetched: Fetched, *, resolve: bool) -> tuple[list[Event], str]:
    """Return a segment's events, whole or as they were stored, or why it stays as it is."""
    if fetched.content is None:
        return [], "it is not there any more"
    if not fetched.intact:
        return [], "it is not what its manifest lists"
    damage: list[Damage] = []
    artifact = fetched.artifact
    events = list(
        read_events(fetched.content, artifact.key, artifact.place, damage.append, resolve=resolve)
    )
    if damage:
        return [], f"line {damage[0].line} is damaged: {damage[0].reason}"
    return events, ""


def events_after(events: Sequence[Event], seq: int) -> list[Event]:
    """Return the events after a number; the first one gets the values of those before it."""
    found: list[Event] = []
    before: Event | None = None
    for event in events:
        if not found and isinstance(event, StoredEvent) and before is not None:
            event = event.after(before)
        before = event
        if event.seq > seq:
            found.append(event)
    return found


def rows_of(events: Iterable[Event]) -> tuple[Rows, str]:
    """Return the rows of events and of their values, or why they stay as they are: a row that is
    not the same afterwards, or too much of it."""
    found: Rows = []
    size = 0
    for event in events:
        for raw in (*event.values, event.raw) if isinstance(event, StoredEvent) else (event.raw,):
            row = row_of(raw)
            line = line_of(dict(zip(NAMES, row, strict=True)))
            if not _same(payload.decode(line), raw):
                return [], "it holds something that a table cannot hold"
            size += len(line)
            if size > SEGMENT_BYTES:
                return [], f"its events take more than {SEGMENT_BYTES} bytes: keep its values"
            found.append((row, line))
    return found, ""


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: 1, 1.0 and true are three values."""
    return _sorted(one) == _sorted(other)


def _sorted(event: Any) -> str | None:
    return json_text({key: event[key] for key in sorted(event)})


class FileWriter:
    """Writes rows to a Parquet file, and notes where each segment's are."""

    def __init__(self, pyarrow: Any, path: Path) -> None:
        self._pyarrow = pyarrow
        self._schema = schema_of(pyarrow)
        parquet = load("asynctrack compact", "pyarrow.parquet")
        self._path = path
        self._file = parquet.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            sorting_columns=parquet.SortingColumn.from_ordering(
                self._schema, [("writer_id", "ascending"), ("seq", "ascending")]
            ),
            use_dictionary=["writer_id", "event", "name", "model", "parent_span_id", "trace_id"],
        )
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0
        self._group = 0
        self.pieces: list[Piece] = []

    def add(self, segment: Segment, wanted: Rows, after: int) -> None:
        """Write a segment's rows after a number: those before are in the file already."""
        size = sum(len(line) for _, line in wanted)
        if self._rows and (
            self._bytes + size > GROUP_BYTES or len(self._rows) + len(wanted) > GROUP_ROWS
        ):
            self._flush()
        digest = hashlib.sha256()
        for _, line in wanted:
            digest.update(line)
        place = segment.artifact.place
        first = max(place.first_seq, after + 1)
        self.pieces.append(
            Piece(
                segment.name, str(segment.artifact.sha256), min(first, place.last_seq + 1),
                place.last_seq, self._group, len(self._rows), len(wanted), size,
                digest.hexdigest(),
            )
        )  # fmt: skip
        self._rows += [row for row, _ in wanted]
        self._bytes += size

    def close(self) -> None:
        """Write the rest."""
        try:
            self._flush()
        finally:
            self._file.close()

    def file(self, day: str, values: str) -> CompactFile:
        """Return what is in the file, which was made with values kept or resolved."""
        parquet = load("asynctrack compact", "pyarrow.parquet")
        # The same segments make the same file: run again, it replaces the first one.
        identity = hashlib.sha256(f"pyarrow {self._pyarrow.__version__}\n".encode())
        if values == "resolve":
            identity.update(b"values resolved\n")
        for piece in self.pieces:
            identity.update(f"{piece.name} {piece.sha256}\n".encode())
        size = self._path.stat().st_size
        metadata = parquet.read_metadata(self._path)
        groups = [_range_of(metadata.row_group(n)) for n in range(metadata.num_row_groups)]
        digest = hashlib.sha256()
        with self._path.open("rb") as content:
            while block := content.read(1024 * 1024):
                digest.update(block)
        return CompactFile(
            name=compact_name(day, identity.hexdigest()[:24]),
            size=size,
            sha256=digest.hexdigest(),
            footer=size - metadata.serialized_size - 8,
            groups=tuple(groups),
            pieces=tuple(self.pieces),
        )

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = list(zip(*self._rows, strict=True))
        arrays = [
            self._pyarrow.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        table = self._pyarrow.Table.from_arrays(arrays, schema=self._schema)
        self._file.write_table(table, row_group_size=max(1, len(self._rows)))
        self._rows = []
        self._bytes = 0
        self._group += 1


def _range_of(group: Any) -> tuple[int, int]:
    starts, ends = [], []
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.data_page_offset
        if column.dictionary_page_offset is not None:
            start = min(start, column.dictionary_page_offset)
        starts.append(start)
        ends.append(start + column.total_compressed_size)
    return min(starts), max(ends)


def verify_file(prefix: str, store: WritableStore, file: CompactFile) -> None:
    """Read every segment's rows back from where the file is stored, and compare checksums.

    Raises:
        ReadError: Something is not what was written.
    """
    pieces = {piece.name: (file, piece) for piece in file.pieces}
    rows = CompactStore(store, prefix, pieces)
    for piece in file.pieces:
        if not piece.rows:
            continue
        key = rows.key(file, piece)
        found = hashlib.sha256(rows.read(key)).hexdigest()
        if found != piece.lines_sha256:
            raise ReadError(
                f"{store.uri(key)} is not what was written there: nothing is deleted, and the file"
                " does not count. Run compact again"
            )
