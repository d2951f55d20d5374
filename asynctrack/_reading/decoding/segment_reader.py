"""Reads a segment of the spool while its writer goes on: what is there, and later what is new.

It takes no lock. A record that is there in part counts as not there yet, unless a sound one
follows: a killed writer leaves such an end as well.

A read takes time: a writer may write a record behind the place that the read has reached, and the
next one before it. So it reads twice: how far the segment goes, then what is in it up to there; all
of that was begun before the first read ended.

The file stays open: it can be renamed, cut to size and deleted meanwhile, and is still read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final

from asynctrack._format import line_time
from asynctrack._spool import segment_format_1
from asynctrack._spool.segment_format import (
    CHECK_BYTES,
    HEADER_BYTES,
    Header,
    Record,
    SegmentError,
    header_of_lines,
    read_header,
    sound_records,
)

_TAIL: Final = 1 << 16
"""Bytes at the end that are searched first for the last record."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What is in a segment, by its ends.

    Attributes:
        writer_id: Whose it is.
        first_seq: Sequence number of its first sound entry.
        last_seq: Sequence number of its last sound entry.
        size: Bytes of the entries up to there.
        time_unix_nano: Wall clock of the first event.
    """

    writer_id: str
    first_seq: int
    last_seq: int
    size: int
    time_unix_nano: int


class SegmentReader:
    """An open segment.

    Args:
        path: The file of lines; if it was sealed meanwhile, it is found under its other name.

    Raises:
        FileNotFoundError: It is gone: delivered, or set aside.
        SegmentError: It is of a newer version.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = _open_index(path)
        try:
            self._file = _open_lines(path)
        except BaseException:
            if self._index is not None:
                self._index.close()
            raise
        self._seen = 0  # records handed over
        self._at = HEADER_BYTES  # where the next one is
        self._header: Header | None = None

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
        """Close the file."""
        self._file.close()
        if self._index is not None:
            self._index.close()

    @property
    def begun(self) -> bool:
        """Whether it has a sound entry. Reads where none was handed over yet."""
        return self._seen > 0 or self.extent() is not None

    def extent(self) -> Extent | None:
        """Return what is in it; None while it has no sound entry."""
        if self._index is not None:
            records = self._indexed(self._index, 0)
            first, last = (records[0], records[-1]) if records else (None, None)
            checks = 0
        else:
            content = self._content(HEADER_BYTES)
            first = next(sound_records(content, HEADER_BYTES), None)
            last = _last(content[-_TAIL:], HEADER_BYTES + max(0, len(content) - _TAIL))
            last = last or _last(content, HEADER_BYTES)
            checks = HEADER_BYTES + CHECK_BYTES * (0 if last is None else last.number + 1)
        if first is None or last is None:
            return None
        header = self._whose(first)
        try:
            time = line_time(first.entry)
        except ValueError as error:
            raise SegmentError(f"{self.path}: its lines are no events of asynctrack's") from error
        return Extent(
            header.writer_id,
            header.first_seq + first.number,
            header.first_seq + last.number,
            last.end - checks,
            max(time, 0),
        )

    def more(self) -> Iterator[tuple[int, bytes]]:
        """Yield the entries that have come since the last call, each with its sequence number.

        An entry is an event's line, with those of the values before it. It is empty where it is
        damaged: it cannot be read, and sound ones follow.
        """
        if self._index is not None:
            found: Iterator[Record] = iter(self._indexed(self._index, self._seen))
        else:
            found = sound_records(self._content(self._at), self._at)
        for record in found:
            if record.number < self._seen:
                continue
            first_seq = self._whose(record).first_seq
            while self._seen < record.number:
                self._seen += 1
                yield first_seq + self._seen - 1, b""
            self._seen, self._at = record.number + 1, record.end
            yield first_seq + record.number, record.entry

    def _content(self, at: int) -> bytes:
        # Unused room is all zeros, and most of a segment is unused.
        used = len(_read(self._file, at, max(0, _size(self._file) - at)).rstrip(b"\0"))
        return _read(self._file, at, used)

    def _indexed(self, index: FileIO, after: int) -> list[Record]:
        """Return the sound records of a segment of format 1."""
        used = len(_read(index, 0, _size(index)).rstrip(b"\0"))
        entries = _read(index, 0, used + segment_format_1.ENTRY.size)
        content = _read(self._file, 0, _size(self._file))
        header, lines = segment_format_1.parse(entries, content, self.path)
        self._header = self._header or header
        sound, end = [], 0
        for number, line in enumerate(lines):
            end += len(line)
            if line and number >= after:
                sound.append(Record(number, line, end))
        return sound

    def _whose(self, record: Record) -> Header:
        """Return what the header says, or a sound entry if it is damaged."""
        if self._header is None and self._index is None:
            self._header = read_header(_read(self._file, 0, HEADER_BYTES), self.path)
        if self._header is None:
            entries = [b""] * record.number + [record.entry]
            self._header = header_of_lines(entries, self.path)
        return self._header


def _last(content: bytes, at: int) -> Record | None:
    return next(iter(deque(sound_records(content, at), maxlen=1)), None)


def _open_index(path: Path) -> FileIO | None:
    try:
        return path.with_suffix(".idx").open("rb", buffering=0)
    except FileNotFoundError:
        return None  # today's format has none


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
