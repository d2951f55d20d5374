"""The events of traces that go on, from one time the index is brought up to date to the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import zstandard

from asynctrack._common import payload
from asynctrack._reading.decoding.events import Event, json_text
from asynctrack._reading.trees.build import Snapshot


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write what a ``TraceBuilder`` holds to a new file; only its owner may read it."""
    head = {
        "threads": [[*key, *value] for key, value in snapshot.threads.items()],
        "waiting": list(snapshot.waiting.items()),
        "events": len(snapshot.events),
    }
    with (
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        zstandard.ZstdCompressor(level=1).stream_writer(file) as packed,
    ):
        packed.write(_line(head))
        for event in snapshot.events:
            packed.write(_line({"size": event.size, "raw": event.raw}))


def read_snapshot(path: Path) -> Snapshot:
    """Read such a file.

    Raises:
        OSError: It is not there.
        ValueError: It is not whole.
    """
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
            lines = unpacked.read().split(b"\n")
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    head = payload.decode(lines[0])
    if len(lines) - 2 != head["events"]:
        raise ValueError("it was cut off")
    events = []
    for line in lines[1:-1]:
        read = payload.decode(line)
        events.append(Event(read["raw"], False, read["size"]))
    threads = {(writer, trace): (thread, old) for writer, trace, thread, old in head["threads"]}
    return Snapshot(tuple(events), threads, dict(head["waiting"]))


def _line(value: Any) -> bytes:
    return (json_text(value) or "null").encode() + b"\n"
