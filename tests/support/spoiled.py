"""Segments that somebody has damaged."""

from __future__ import annotations

import re
from pathlib import Path


def spoil_lines(path: Path, *numbers: int, at: int = 30) -> None:
    """Change one byte of these lines of a segment, by their numbers in it."""
    content = bytearray(path.read_bytes())
    starts = [0]
    for one in bytes(content).splitlines(keepends=True):
        starts.append(starts[-1] + len(one))
    with path.open("r+b") as file:  # in place: its writer may have it open
        for number in numbers:
            place = starts[1 + 2 * number] + at  # behind the header, lines and checks in turn
            file.seek(place)
            file.write(bytes([content[place] ^ 0x10]))


def spoil_records(path: Path, *numbers: int) -> None:
    """Change one byte of these records of a segment; the same again makes them whole."""
    content = path.read_bytes()
    ends = [match.end() for match in re.finditer(rb"\n[0-9a-f]{16}\n", content)]
    with path.open("r+b") as file:
        for number in numbers:
            place = ends[number] - 40  # in the line of the event
            file.seek(place)
            file.write(bytes([content[place] ^ 0x10]))


def spoil_header(path: Path) -> None:
    """Make nothing of the header of a segment."""
    with path.open("r+b") as file:
        file.write(b"\xff" * 64)


def make_rubbish(path: Path) -> None:
    """Make a segment unreadable as a whole."""
    path.write_bytes(b"\xff" * 200)
