"""The format of a segment of the spool, and how it is read: shared by the write and the read path.

One file of text, ``<n>.open``: a header, then one record for each event. A record is the event's
entry as it will be uploaded, lines of plain JSON that any tool finds: the values before the event,
and the event. Behind it are 16 hexadecimal digits on a line of their own: its number in the
segment, and a checksum over both. So an entry and what vouches for it are one write, a torn or
damaged one is told from a good one, and each record stands for itself: damage costs the records it
hits and no others. Room that is not used yet is zeros. ``segment`` writes it, ``segment_content``
reads it, and what versions before wrote: in format 2 an entry was always one line.
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from asynctrack._format import parse_line_start

FORMAT_VERSION: Final = 3
"""Version of the spool's files. Older ones are read, newer ones are refused and kept."""

HEADER_BYTES: Final = 96
CHECK_BYTES: Final = 17
"""Bytes that a record is longer than its entry."""
_START: Final = 100
"""Bytes in which a line has named its writer and its number."""
_CHECKED: Final = HEADER_BYTES - 9
_HEADER: Final = re.compile(rb"ATSPOOL (\d{1,5}) ([0-9a-f]{1,32}) (\d{1,20}) (\d{1,10}) *")
_VERSION: Final = re.compile(rb"ATSPOOL (\d{1,5}) ")
_CHECK: Final = re.compile(rb"\n([0-9a-f]{16})\n")
_PAIR: Final = Struct(">II")
_pack: Final = _PAIR.pack
# The end of a record, one byte of whose check is damaged. One that a killed writer left half done
# ends anywhere: also behind one of its lines, or a little further.
_DAMAGED_END: Final = re.compile(rb"\n[^\n{][^\n]{16}\Z|[^}]\n\Z")


class SegmentError(Exception):
    """A segment cannot be read: not ours, a newer version, or damaged as a whole."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a segment says.

    Attributes:
        writer_id: Whose it is.
        first_seq: Sequence number of its first event.
        events: How many events it has; 0 as long as it is being written.
    """

    writer_id: str
    first_seq: int
    events: int


@dataclass(frozen=True, slots=True)
class Record:
    """A sound record.

    Attributes:
        number: Its number in the segment, from 0.
        entry: The event's line, with those of values before it.
        end: Where it ends.
    """

    number: int
    entry: bytes
    end: int


def make_header(header: Header) -> bytes:
    """Return the first bytes of a segment."""
    text = f"ATSPOOL {FORMAT_VERSION} {header.writer_id} {header.first_seq} {header.events}"
    checked = text.encode().ljust(_CHECKED)
    return b"%b%08x\n" % (checked, crc32(checked))


def make_record(number: int, entry: bytes) -> bytes:
    """Return the record of an entry: lines that are JSON objects, each with a line end."""
    return b"".join((entry, hexlify(_pack(number, crc32(entry, number))), b"\n"))


def lines_of(records: bytes) -> tuple[bytes, int]:
    """Return the lines of records, one after the other, and how many records there are.

    Checks nothing: for what this very process has written. Where it is not whole, or something
    else, number or size differ. A loop and no regular expression: for 8 MiB that would keep the
    interpreter from the application for 10 ms.
    """
    view = memoryview(records)
    find, goes_on = records.find, records.startswith
    entries = []
    at = 0
    while (end := find(b"\n", at) + 1) > 0:
        while goes_on(b"{", end):  # no check begins with it
            end = find(b"\n", end) + 1 or len(records)
        entries.append(view[at:end])
        at = end + CHECK_BYTES
    return b"".join(entries), len(entries)


def parse(content: bytes, path: Path) -> tuple[Header | None, list[bytes]]:
    """Return header and entries of a segment: None, and empty ones, where they are damaged.

    Raises:
        SegmentError: It is of a newer version.
    """
    header = read_header(content, path)
    found = {}
    last = HEADER_BYTES
    for record in sound_records(content[HEADER_BYTES:], HEADER_BYTES):
        found[record.number] = record.entry
        last = record.end
    total = max(found, default=-1) + 1 + _damaged_end(content[last:])
    if header is not None:
        total = max(total, header.events)
    return header, [found.get(number, b"") for number in range(total)]


def read_header(content: bytes, path: Path) -> Header | None:
    """Return what the header says; None where it is damaged.

    Raises:
        SegmentError: It is of a newer version.
    """
    checked = content[:_CHECKED]
    version = _VERSION.match(checked)
    if version is None or content[_CHECKED:HEADER_BYTES] != b"%08x\n" % crc32(checked):
        return None
    refuse_newer(int(version[1]), path)
    match = _HEADER.fullmatch(checked)
    return Header(match[2].decode(), int(match[3]), int(match[4])) if match else None


def refuse_newer(version: int, path: Path) -> None:
    """Refuse a segment that is of a newer version.

    Raises:
        SegmentError: It is.
    """
    if version > FORMAT_VERSION:
        raise SegmentError(
            f"{path}: written by a newer version (format {version}, this one reads up to"
            f" {FORMAT_VERSION}); it is kept, replay it with that version"
        )


def sound_records(content: bytes, at: int) -> Iterator[Record]:
    """Yield the sound records in a part of a segment, which may begin anywhere.

    Args:
        content: The part.
        at: Where in the file it begins.
    """
    start = 0
    for check in _CHECK.finditer(content):
        number, checksum = _PAIR.unpack(unhexlify(check[1]))
        entry = content[start : check.start() + 1]
        start = check.end()
        # Each one before it took some room, too: no list is made for a number that is made up.
        if number * CHECK_BYTES > at + start:
            continue
        if crc32(entry, number) == checksum:
            yield Record(number, entry, at + start)
            continue
        for begin in _begins(entry):
            if crc32(entry[begin:], number) == checksum:
                yield Record(number, entry[begin:], at + start)
                break


def _begins(content: bytes) -> Iterator[int]:
    """Yield where the entry at the end may begin, behind a damaged record."""
    after = content.rfind(b"\n", 0, -1) + 1
    seq = _seq_at(content, after)
    # Back over the values before the event: they have its number.
    while seq is not None and after:
        before = content.rfind(b"\n", 0, after - 1) + 1
        if _seq_at(content, before) != seq:
            if _seq_at(content, before + CHECK_BYTES) == seq:
                after = before
            break
        after = before
    yield after  # the check before it is damaged
    yield after + CHECK_BYTES  # the end of that check is
    yield content.rfind(b"\0") + 1  # others have cut the file, and it was written on


def _seq_at(content: bytes, at: int) -> int | None:
    place = parse_line_start(content[at : at + _START])
    return None if place is None else place[1]


def _damaged_end(rest: bytes) -> int:
    """Return how many whole but damaged records there are behind the last sound one."""
    rest = rest.rstrip(b"\0")
    checks = [check.end() for check in _CHECK.finditer(rest)]
    return len(checks) + bool(_DAMAGED_END.search(rest, checks[-1] if checks else 0))


def header_of_lines(entries: list[bytes], path: Path) -> Header:
    """Return what the header would say, of lines that agree on it.

    Raises:
        SegmentError: They do not, or there is none.
    """
    said = set()
    for number, entry in enumerate(entries):
        place = parse_line_start(entry) if entry else None
        if place is not None:
            said.add((place[0], place[1] - number))
    if len(said) != 1:
        raise SegmentError(f"{path}: not a segment of asynctrack's, or its header is damaged")
    return Header(*said.pop(), 0)
