"""Reads a segment of the spool while its writer goes on: what is there, and later what is new.

A writer copies a line, then its entry; nothing is locked. So the index is read before the lines,
and an entry whose line does not match it yet stands for an event that is not there yet, as long
as no sound one follows: a killed writer leaves such an end as well.

Nor is a read of the index one moment: an entry may be written behind the place that it has come to,
and the next one before it. So it is read twice: how far it goes, then what is in it up to there,
which was all written before the first read had ended.

The files stay open: they may be renamed, cut to size and deleted meanwhile, and are read all the
same.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final

from asynctrack._format import line_time, parse_line_start
from asynctrack._segment_format import ENTRY, HEADER_BYTES, SegmentError, read_header

_WINDOW: Final = 1 << 20
"""Bytes of lines that are read at a time."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What is in a segment, by its ends.

    Attributes:
        writer_id: Whose it is.
        first_seq: Sequence number of its first sound line.
        last_seq: Sequence number of its last sound line.
        size: Bytes up to there.
        time_unix_nano: Wall clock of the first line.
    """

    writer_id: str
    first_seq: int
    last_seq: int
    size: int
    time_unix_nano: int


class SegmentReader:
    """An open segment.

    Args:
        path: The file of lines; looked for under its other name where it was sealed meanwhile.

    Raises:
        FileNotFoundError: It is gone: delivered, or set aside.
        SegmentError: It is of a newer version.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = path.with_suffix(".idx").open("rb", buffering=0)
        try:
            self._lines = _open_lines(path)
        except BaseException:
            self._index.close()
            raise
        self._seen = 0  # entries handed over
        self._header: tuple[str, int] | None = None

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._index.close()
        self._lines.close()

    def extent(self) -> Extent | None:
        """Return what is in it, without reading it all; None where no sound line is there yet."""
        entries = self._entries(0)
        window = _Window(self._lines)
        numbers = range(len(entries))
        first = next((n for n in numbers if window.line(entries[n])), None)
        last = next((n for n in reversed(numbers) if window.line(entries[n])), None)
        if first is None or last is None:
            return None
        line = window.line(entries[first])
        writer_id, first_seq = self._whose(first, line)
        start, length, _ = entries[last]
        try:
            time = line_time(line)
        except ValueError as error:
            raise SegmentError(f"{self.path}: its lines are no events of asynctrack's") from error
        return Extent(
            writer_id, first_seq + first, first_seq + last, start - 1 + length, max(time, 0)
        )

    def more(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that have come since the last call, each with its sequence number.

        The line is empty where it is damaged: it cannot be read, and sound ones follow.
        """
        bad = 0
        window = _Window(self._lines)
        for entry in self._entries(self._seen):
            line = window.line(entry)
            if not line:
                bad += 1
                continue
            _, first_seq = self._whose(self._seen + bad, line)
            for _ in range(bad):
                self._seen += 1
                yield first_seq + self._seen - 1, b""
            bad = 0
            self._seen += 1
            yield first_seq + self._seen - 1, line

    def _entries(self, after: int) -> list[tuple[int, int, int]]:
        at = HEADER_BYTES + after * ENTRY.size
        size = max(0, _size(self._index) - at) // ENTRY.size * ENTRY.size
        # Room that was never written is all zeros; most of an index is that.
        used = len(_read(self._index, at, size).rstrip(b"\0"))
        index = _read(self._index, at, -(-used // ENTRY.size) * ENTRY.size)
        return list(ENTRY.iter_unpack(index[: len(index) // ENTRY.size * ENTRY.size]))

    def _whose(self, number: int, line: bytes) -> tuple[str, int]:
        """Return writer and first sequence number: of the header, or of a sound line."""
        if self._header is None:
            self._header = read_header(_read(self._index, 0, HEADER_BYTES), self.path)
        if self._header is None:
            place = parse_line_start(line)
            if place is None:
                raise SegmentError(f"{self.path}: its header is damaged, and its lines say nothing")
            self._header = (place[0], place[1] - number)
        return self._header


class _Window:
    """Reads lines a megabyte at a time; made anew for each look, since what is there changes."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._start = 0
        self._content = b""

    def line(self, entry: tuple[int, int, int]) -> bytes:
        """Return the line of an entry; empty where it is not, or not yet, what the entry says."""
        start, length, checksum = entry
        if not start or not length:
            return b""
        start -= 1
        at = start - self._start
        if at < 0 or at + length > len(self._content):
            if start + length > _size(self._file):
                return b""
            self._content = _read(self._file, start, max(length, _WINDOW))
            self._start, at = start, 0
        line = self._content[at : at + length]
        sound = len(line) == length and zlib.crc32(line, start) == checksum
        return line if sound and line.endswith(b"\n") else b""


def _open_lines(path: Path) -> FileIO:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return path.with_suffix(".sealed").open("rb", buffering=0)


def _read(file: FileIO, at: int, size: int) -> bytes:
    file.seek(at)
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _size(file: FileIO) -> int:
    return file.seek(0, os.SEEK_END)
