"""Spools made by hand: what a writer that lives, or died, has left on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from asynctrack._spool.folder import WriterFolder
from asynctrack._spool.layout import writer_folder
from asynctrack._spool.segment import Segment, Shape
from tests.reading.making import WRITER


@dataclass
class SpoolFolder:
    """A writer's folder in a spool; it lives until ``die`` is called, or the test ends."""

    made: ClassVar[list[SpoolFolder]] = []

    spool_dir: Path
    destination: Mapping[str, Any]
    writer: str = WRITER
    experiment: str = "jokes"
    run: str = "one"
    folder: WriterFolder = field(init=False)
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.made.append(self)
        self.folder = WriterFolder(writer_folder(self.spool_dir, self.writer))
        self.folder.describe(
            {
                "writer_id": self.writer,
                "experiment": self.experiment,
                "run": self.run,
                "compression": "zstd",
                "destination": dict(self.destination),
            }
        )

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    def segment(self, events: Iterable[Mapping[str, Any]] = (), *, seal: bool = False) -> Segment:
        """Make a segment with these events in it; it goes on unless it is sealed."""
        segment = self.folder.new_segment(Shape(1 << 20, 1_000))
        self.segments.append(segment)
        for one in events:
            self.append(segment, one)
        if seal:
            segment.seal()
            segment.trim()
        return segment

    def dead_letters(self, events: Sequence[Mapping[str, Any]], reason: str) -> Path:
        """Leave events that were refused for good; returns their file."""
        path = self.path / f"{events[0]['seq']:012d}-{events[-1]['seq']:012d}.dead"
        path.write_bytes(entry_of(events))
        path.with_suffix(".reason").write_text(reason)
        return path

    def append(self, segment: Segment, *lines: Mapping[str, Any]) -> None:
        """Add an event to a segment, with the values before it."""
        if segment.first_seq == 0:
            segment.begin(self.writer, lines[-1]["seq"])
        segment.append(entry_of(lines))

    def die(self) -> None:
        """Let go of everything without cleaning up, as a killed process does."""
        self.folder.abandon()
        for segment in self.segments:
            segment.let_go()


def entry_of(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Lines as bytes."""
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in lines)


@pytest.fixture(autouse=True)
def writers_die() -> Iterator[None]:
    """Whoever lives at the end of a test ends with it."""
    yield
    while SpoolFolder.made:
        SpoolFolder.made.pop().die()


def folder_of(path: Path) -> dict[str, Any]:
    """The destination of a writer that tracks into this Run's folder."""
    return {"kind": "folder", "root": path.as_posix()}


def bucket_of(bucket: str, prefix: str, endpoint_url: str | None) -> dict[str, Any]:
    """The destination of a writer that tracks into this Run's folder in S3."""
    return {"kind": "s3", "bucket": bucket, "root": prefix, "endpoint_url": endpoint_url}
