"""The format of a segment of the spool, and how it is read: shared by the write and the read path.

Two files. ``<n>.open`` holds the lines as they will be uploaded, nothing else: plain NDJSON that
any tool reads. ``<n>.idx`` holds a header and one entry for each line: where it starts, how long it
is, and a checksum over both and the line. A line counts when its entry vouches for it, so a torn or
damaged one is told from a good one, and each entry stands for itself: damage costs the records it
hits and no others. ``_segment`` writes them.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynctrack._format import parse_line_start

FORMAT_VERSION: Final = 1
"""Version of the spool's files. Older ones are read, newer ones are refused and kept."""

MAGIC: Final = b"ATSPOOL\n"
# magic, version, unused, first seq, writer id
HEADER: Final = struct.Struct("<8sHHIQ32s")
HEADER_SUM: Final = struct.Struct("<I")
ENTRY: Final = struct.Struct("<III")  # start + 1 (so that zero means none), length, checksum
HEADER_BYTES: Final = 64
assert HEADER.size + HEADER_SUM.size <= HEADER_BYTES
_WRITER: Final = re.compile(rb"([0-9a-f]+)\0*")


class SegmentError(Exception):
    """A segment cannot be read: not ours, a newer version, or damaged as a whole."""


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a segment on disk holds.

    Attributes:
        writer_id: Whose it is; empty for one that was made ready and never used.
        first_seq: Sequence number that its first line has.
        lines: The good lines, each with its sequence number, in order.
        damaged: Sequence numbers whose entry or line is damaged, as far as that can be told.
    """

    writer_id: str
    first_seq: int
    lines: tuple[tuple[int, bytes], ...]
    damaged: tuple[int, ...]


def read_segment(path: Path) -> SegmentContent:
    """Read a segment from disk, whatever state it was left in.

    A damaged header costs nothing while one line is sound: lines say whose they are as well.

    Args:
        path: The file of lines.

    Raises:
        SegmentError: It is not ours, of a newer version, or damaged beyond what lines can tell.
            Its files are left as they are.
        OSError: A file cannot be read.
    """
    index = path.with_suffix(".idx").read_bytes()
    lines = path.read_bytes()
    if not any(index):
        if any(lines):
            raise SegmentError(f"{path}: its index is empty, nothing vouches for its lines")
        return SegmentContent("", 0, (), ())
    header = read_header(index, path)
    found = _read_entries(index, lines)
    writer_id, first_seq = header or _header_of_lines(found, path)
    good = [(first_seq + number, line) for number, line in enumerate(found) if line]
    damaged = [first_seq + number for number, line in enumerate(found) if not line]
    return SegmentContent(writer_id, first_seq, tuple(good), tuple(damaged))


def _read_entries(index: bytes, lines: bytes) -> list[bytes]:
    """Return the line of each entry; empty where it or its line is damaged."""
    room = max(0, len(index) - HEADER_BYTES) // ENTRY.size * ENTRY.size
    entries = list(ENTRY.iter_unpack(index[HEADER_BYTES : HEADER_BYTES + room]))
    # Behind the last entry there is room that was never written: a bit that flipped in there is
    # no entry. One that was written has three numbers, two of them after any bit has flipped.
    while entries and sum(map(bool, entries[-1])) < 2:
        entries.pop()
    found = []
    for start, length, checksum in entries:
        line = lines[start - 1 : start - 1 + length] if start else b""
        sound = length and len(line) == length and zlib.crc32(line, start - 1) == checksum
        found.append(line if sound and line.endswith(b"\n") else b"")
    return found


def read_header(index: bytes, path: Path) -> tuple[str, int] | None:
    """Return writer and first sequence number; None where the header is damaged."""
    size = HEADER.size
    if len(index) < size + HEADER_SUM.size:
        return None
    magic, version, _, _, first_seq, writer = HEADER.unpack_from(index)
    (checksum,) = HEADER_SUM.unpack_from(index, size)
    match = _WRITER.fullmatch(writer)
    if magic != MAGIC or zlib.crc32(index[:size]) != checksum:
        return None
    if version > FORMAT_VERSION:
        raise SegmentError(
            f"{path}: written by a newer version (format {version}, this one reads up to"
            f" {FORMAT_VERSION}); it is kept, replay it with that version"
        )
    return (match[1].decode(), first_seq) if match else None


def _header_of_lines(found: list[bytes], path: Path) -> tuple[str, int]:
    """Return what the header would say, of lines that agree on it."""
    said = set()
    for number, line in enumerate(found):
        place = parse_line_start(line) if line else None
        if place is not None:
            said.add((place[0], place[1] - number))
    if len(said) != 1:
        raise SegmentError(
            f"{path.with_suffix('.idx')}: not an index of asynctrack's, or its header is damaged"
        )
    return said.pop()
