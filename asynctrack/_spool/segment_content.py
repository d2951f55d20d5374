"""What a segment of the spool holds, whatever state and format it was left in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asynctrack._spool import segment_format_1
from asynctrack._spool.segment_format import Header, header_of_lines, parse


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a segment on disk holds.

    Attributes:
        writer_id: Whose it is; empty for one that was made ready and never used.
        first_seq: Sequence number that its first event has.
        lines: The good entries, each with its sequence number, in order: an event's line, with
            those of the values before it.
        damaged: Sequence numbers whose record is damaged or gone, as far as that can be told.
    """

    writer_id: str
    first_seq: int
    lines: tuple[tuple[int, bytes], ...]
    damaged: tuple[int, ...]


def read_segment(path: Path) -> SegmentContent:
    """Read a segment from disk.

    A damaged header costs nothing while one line is sound: lines say whose they are as well.

    Args:
        path: The file of lines.

    Raises:
        SegmentError: It is not ours, of a newer version, or damaged beyond what lines can tell.
            Its files are left as they are.
        OSError: A file cannot be read.
    """
    index = segment_format_1.index_of(path)
    content = path.read_bytes()
    if index is None:
        return segment_content(content, path)
    header, entries = segment_format_1.parse(index, content, path)
    return _content(header, entries, content, path.with_suffix(".idx"))


def segment_content(content: bytes, path: Path) -> SegmentContent:
    """Return what is in a segment of today's format, or of format 2.

    Raises:
        SegmentError: As ``read_segment``.
    """
    return _content(*parse(content, path), content, path)


def _content(
    header: Header | None, entries: list[bytes], content: bytes, vouching: Path
) -> SegmentContent:
    if header is None:
        if not entries and not any(content):
            return SegmentContent("", 0, (), ())
        header = header_of_lines(entries, vouching)
    first_seq = header.first_seq
    good = [(first_seq + number, entry) for number, entry in enumerate(entries) if entry]
    damaged = [first_seq + number for number, entry in enumerate(entries) if not entry]
    return SegmentContent(header.writer_id, first_seq, tuple(good), tuple(damaged))
