"""Segments of format 1, as asynctrack before its format 2 left them: in two files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path


def header_1(writer_id: str, first_seq: int, version: int = 1) -> bytes:
    """The header of an index."""
    header = struct.pack("<8sHHIQ32s", b"ATSPOOL\n", version, 0, 0, first_seq, writer_id.encode())
    return (header + struct.pack("<I", zlib.crc32(header))).ljust(64, b"\0")


def write_segment_1(
    path: Path,
    writer_id: str,
    first_seq: int,
    lines: Sequence[bytes],
    *,
    room: int = 0,
    max_events: int = 0,
) -> Path:
    """Write both files: of a writer that ended, or with room left, of one that was killed."""
    index, at = header_1(writer_id, first_seq), 0
    for line in lines:
        index += struct.pack("<III", at + 1, len(line), zlib.crc32(line, at))
        at += len(line)
    path.write_bytes(b"".join(lines).ljust(room, b"\0"))
    path.with_suffix(".idx").write_bytes(index.ljust(64 + 12 * max_events, b"\0"))
    return path
