"""Compacted events read back: what ``compact`` wrote replaces segments that are gone.

A Parquet file counts once its manifest is there, which lists its segments and their checksums. A
reader takes a segment while it is there, else its rows: so each event comes once at any time, also
while segments are being deleted. Each segment's rows are read with one ranged request, turned into
lines, and compared with the checksum.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

from asynctrack._backends.protocol import GoneError, StoredObject
from asynctrack._common import payload
from asynctrack._errors import ReadError
from asynctrack._format import ArtifactName, compact_prefix, parse_artifact_name
from asynctrack._reading.decoding.parquet_rows import RangedFile, lines_of
from asynctrack._reading.extras import load
from asynctrack._reading.sources.manifests import Problem
from asynctrack._reading.sources.stores import Location, WritableStore

VERSION: Final = 1
_GROUPS: Final = 2
"""Row groups that are kept, for the segments that share one."""
_ROWS: Final = 1_000
"""Rows that are turned into lines at a time."""

_EXTRA: Final = frozenset({"time", "model", "input_tokens", "output_tokens"})
"""Columns that repeat others."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one segment.

    Attributes:
        name: The segment's key below the Run's folder.
        sha256: The segment's checksum, in hex.
        first_seq: Its first event that is here; those that are in another piece are left out.
        last_seq: Its last event.
        group: Number of the row group.
        row: Number of its first row in there.
        rows: How many rows; 0 if all its events are in other pieces.
        bytes: Size of its lines, in bytes.
        lines_sha256: Checksum of its lines, in hex.
    """

    name: str
    sha256: str
    first_seq: int
    last_seq: int
    group: int
    row: int
    rows: int
    bytes: int
    lines_sha256: str


@dataclass(frozen=True, slots=True)
class CompactFile:
    """What is in one Parquet file.

    Attributes:
        name: Its key below the folder of the Run's compacted events.
        size: Its size, in bytes.
        sha256: Its checksum, in hex.
        footer: Where its footer begins.
        groups: First byte of each row group, and the first byte after it.
        pieces: The segments in it, by writer and sequence number.
    """

    name: str
    size: int
    sha256: str
    footer: int
    groups: tuple[tuple[int, int], ...]
    pieces: tuple[Piece, ...]

    def encode(self) -> bytes:
        """Return it as its manifest is stored."""
        return payload.encode({"v": VERSION, **asdict(self)})


def decode_file(content: bytes) -> CompactFile:
    """Return a manifest.

    Raises:
        ValueError: It is none.
    """
    raw = payload.decode(content)
    if type(raw) is not dict or raw.get("v") != VERSION:
        raise ValueError(f"not a manifest of compacted events of version {VERSION}")
    try:
        pieces = tuple(Piece(**piece) for piece in raw["pieces"])
        groups = tuple((start, end) for start, end in raw["groups"])
        file = CompactFile(raw["name"], raw["size"], raw["sha256"], raw["footer"], groups, pieces)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a manifest of compacted events: {error}") from error
    numbers = [file.size, file.footer, *(at for group in groups for at in group)]
    for piece in pieces:
        numbers += [piece.group, piece.row, piece.rows, piece.bytes]
        place = parse_artifact_name(piece.name) if type(piece.name) is str else None
        if place is None or not piece.first_seq <= piece.last_seq + (not piece.rows):
            raise ValueError("it names something that is not a segment")
        if type(piece.group) is not int or not 0 <= piece.group < max(1, len(groups)):
            raise ValueError("it names a row group that is not there")
    if any(type(number) is not int or not 0 <= number < 2**53 for number in numbers):
        raise ValueError("it holds a number that cannot be one")
    if any(not 0 <= start <= end <= file.footer <= file.size for start, end in groups):
        raise ValueError("it names bytes that are not in the file")
    if not isinstance(file.name, str) or not file.name.startswith("dt=") or ".." in file.name:
        raise ValueError("it names no Parquet file")
    return file


@dataclass(frozen=True, slots=True)
class Compacted:
    """What is compacted of a Run.

    Attributes:
        files: The files that count.
        orphans: Keys of Parquet files without a manifest: a compact that was killed left them.
    """

    files: tuple[CompactFile, ...]
    orphans: tuple[str, ...]

    def pieces(self) -> dict[str, tuple[CompactFile, Piece]]:
        """Return each segment's piece, by the segment's key; the first one where there are two."""
        found: dict[str, tuple[CompactFile, Piece]] = {}
        for file in self.files:
            for piece in file.pieces:
                found.setdefault(piece.name, (file, piece))
        return found


def read_compacted(location: Location, problems: list[Problem]) -> Compacted:
    """Read what is compacted of a Run. Blocks: one listing, and one request for each file.

    Args:
        location: The Run's folder.
        problems: Gets manifests that cannot be read.
    """
    store, prefix = location.store, compact_prefix(location.prefix)
    files: list[CompactFile] = []
    there: list[str] = []
    for found in sorted(store.objects(prefix), key=lambda one: one.key):
        name = found.key[len(prefix) :]
        if name.rpartition("/")[2].startswith("."):
            continue  # a file that is being written
        if name.endswith(".parquet"):
            there.append(name)
        elif name.startswith("_manifest/") and name.endswith(".json"):
            try:
                files.append(decode_file(store.read(found.key)))
            except GoneError:
                continue
            except ValueError as error:
                problems.append(Problem(store.uri(found.key), f"cannot be read ({error})"))
    present = set(there)
    for file in files:
        if file.name not in present:
            reason = "is missing: its manifest lists it, with segments that may be deleted"
            problems.append(Problem(store.uri(prefix + file.name), reason))
    counted = {file.name for file in files}
    orphans = tuple(prefix + name for name in there if name not in counted)
    return Compacted(tuple(file for file in files if file.name in present), orphans)


class CompactStore:
    """Rows of Parquet files, read as if they were segments of lines.

    Args:
        store: Where the files are.
        prefix: The folder of the Run's compacted events.
        pieces: What there is, by the segment's key.
    """

    def __init__(
        self,
        store: WritableStore,
        prefix: str,
        pieces: Mapping[str, tuple[CompactFile, Piece]],
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._pieces = {self.key(file, piece): (file, piece) for file, piece in pieces.values()}
        self._lock = threading.Lock()
        self._building = threading.Semaphore(2)
        self._footers: dict[str, Any] = {}
        self._groups: OrderedDict[tuple[str, int], Future[Any]] = OrderedDict()

    def key(self, file: CompactFile, piece: Piece) -> str:
        """Return the key under which a segment's rows are read: lines, not packed."""
        return f"{self._prefix}{file.name}#{piece.name.partition('.')[0]}.jsonl"

    def folders(self, prefix: str) -> list[str]:
        """Return nothing: it is for reading only."""
        return []

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield nothing: it is for reading only."""
        return iter(())

    def uri(self, key: str) -> str:
        """Return the address of the file, with the segment behind ``#``."""
        return self._store.uri(key)

    def read(self, key: str) -> bytes:
        """Return a segment's lines.

        Raises:
            GoneError: The file is not there.
            ReadError: It cannot be read.
            MissingExtraError: pyarrow is not installed.
        """
        file, piece = self._pieces[key]
        if not piece.rows:
            return b""
        found: list[bytes] = []
        # Two at a time, and some rows at a time: rows take many times the memory of lines.
        with self._building:
            table = self._group(file, piece.group)
            if piece.row + piece.rows > table.num_rows:
                raise ReadError(f"{self.uri(key)} has fewer rows than its manifest lists")
            for start in range(piece.row, piece.row + piece.rows, _ROWS):
                part = table.slice(start, min(_ROWS, piece.row + piece.rows - start))
                columns = {name: part.column(name).to_pylist() for name in part.column_names}
                found.append(b"".join(lines_of(columns)))
        return b"".join(found)

    def _group(self, file: CompactFile, number: int) -> Any:
        """Return a row group; threads that want the same one share one request."""
        key = (file.name, number)
        with self._lock:
            future = self._groups.get(key)
            mine = future is None
            if future is None:
                future = self._groups[key] = Future()
                while len(self._groups) > _GROUPS + 1 and next(iter(self._groups)) != key:
                    self._groups.popitem(last=False)
        if mine:
            try:
                future.set_result(self._load(file, number))
            except BaseException as error:
                with self._lock:
                    self._groups.pop(key, None)
                future.set_exception(error)
        return future.result()

    def _load(self, file: CompactFile, number: int) -> Any:
        parquet = load("reading compacted events", "pyarrow.parquet")
        arrow_error = load("reading compacted events", "pyarrow").ArrowException
        key = self._prefix + file.name

        def fetch(start: int, end: int) -> bytes:
            return self._store.read_range(key, start, end)

        try:
            footer = self._footers.get(file.name)
            if footer is None:
                # One request for the footer, as its place is known.
                whole = RangedFile(file.size, fetch, (file.footer, file.size))
                footer = self._footers[file.name] = parquet.read_metadata(whole)
            ranged = RangedFile(file.size, fetch, file.groups[number])
            columns = [name for name in footer.schema.to_arrow_schema().names if name not in _EXTRA]
            return parquet.ParquetFile(ranged, metadata=footer).read_row_group(
                number, columns=columns, use_threads=False
            )
        except (arrow_error, OSError, IndexError) as error:
            raise ReadError(f"{self._store.uri(key)} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Twin:
    """What replaces a segment: where it is read, its share of the file's size, its place, and the
    checksum of its lines."""

    store: CompactStore
    key: str
    size: int
    place: ArtifactName
    sha256: str


def twins_of(
    location: Location, compacted: Compacted, present: Mapping[str, Any]
) -> dict[str, Twin]:
    """Return what replaces segments that are gone, by their keys below the Run's folder.

    Args:
        location: The Run's folder.
        compacted: What is compacted of it.
        present: The segments that are there.
    """
    pieces = {name: found for name, found in compacted.pieces().items() if name not in present}
    if not pieces:
        return {}
    store = CompactStore(
        cast(WritableStore, location.store), compact_prefix(location.prefix), pieces
    )
    twins: dict[str, Twin] = {}
    lines = {file.name: sum(piece.bytes for piece in file.pieces) for file in compacted.files}
    for name, (file, piece) in pieces.items():
        place = parse_artifact_name(name)
        assert place is not None  # checked when it was read
        place = ArtifactName(place.writer_id, piece.first_seq, piece.last_seq, place.day)
        share = piece.bytes * file.size // max(1, lines[file.name])
        key = store.key(file, piece)
        twins[name] = Twin(store, key, share, place, piece.lines_sha256)
    return twins
