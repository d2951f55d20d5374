"""How a segment of format 1 is read: what asynctrack before its format 2 left in a spool.

Two files. ``<n>.open`` holds the lines and nothing else, ``<n>.idx`` a header and one entry for
each line: where it starts, how long it is, and a checksum over both and the line.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Final

from asynctrack._spool.segment_format import Header, SegmentError, refuse_newer

MAGIC: Final = b"ATSPOOL\n"
# magic, version, unused, first seq, writer id
HEADER: Final = struct.Struct("<8sHHIQ32s")
HEADER_SUM: Final = struct.Struct("<I")
ENTRY: Final = struct.Struct("<III")  # start + 1 (so that zero means none), length, checksum
HEADER_BYTES: Final = 64
_WRITER: Final = re.compile(rb"([0-9a-f]+)\0*")


def index_of(path: Path) -> bytes | None:
    """Return the index beside a file of lines; None where there is none: it is of format 2.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return path.with_suffix(".idx").read_bytes()
    except FileNotFoundError:
        return None


def parse(index: bytes, content: bytes, path: Path) -> tuple[Header | None, list[bytes]]:
    """Return header and lines of a segment: None, and empty ones, where they are damaged.

    Raises:
        SegmentError: It is of a newer version, or nothing vouches for its lines.
    """
    if not any(index):
        if any(content):
            raise SegmentError(f"{path}: its index is empty, nothing vouches for its lines")
        return None, []
    return _read_header(index, path), _read_entries(index, content)


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


def _read_header(index: bytes, path: Path) -> Header | None:
    size = HEADER.size
    if len(index) < size + HEADER_SUM.size:
        return None
    magic, version, _, _, first_seq, writer = HEADER.unpack_from(index)
    (checksum,) = HEADER_SUM.unpack_from(index, size)
    match = _WRITER.fullmatch(writer)
    if magic != MAGIC or zlib.crc32(index[:size]) != checksum:
        return None
    refuse_newer(version, path)
    return Header(match[1].decode(), first_seq, 0) if match else None
