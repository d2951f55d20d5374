"""Makes Runs on disk by hand, from the public contract alone: no code of the write path."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

WRITER = "a" * 24
OTHER = "b" * 24
START = 1_767_225_600 * 10**9  # 2026-01-01T00:00:00Z
DAY = "2026-01-01"


def event(
    seq: int, *, writer: str = WRITER, time: int | None = None, kind: str = "text", **fields: Any
) -> dict[str, Any]:
    """An event with what every event has."""
    return {
        "v": 1,
        "writer_id": writer,
        "seq": seq,
        "time_unix_nano": START + seq * 1000 if time is None else time,
        "event": kind,
        **fields,
    }


def lines(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Events as NDJSON."""
    found = (json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in events)
    return b"".join(line.encode() + b"\n" for line in found)


def packed(raw: bytes, suffix: str) -> bytes:
    """NDJSON as it is stored under a key with this ending."""
    if suffix == ".zst":
        return zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    return gzip.compress(raw, mtime=0) if suffix == ".gz" else raw


@dataclass
class RunFolder:
    """The folder of one Run, to be filled."""

    root: Path
    experiment: str = "jokes"
    run: str = "one"
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The Run's folder."""
        return self.root / f"asynctrack/v1/experiment={self.experiment}/run={self.run}"

    def artifact(
        self,
        events: list[dict[str, Any]],
        *,
        writer: str = WRITER,
        suffix: str = ".zst",
        day: str = DAY,
        first: int | None = None,
        last: int | None = None,
        listed: bool = True,
    ) -> Path:
        """Store events as an artifact, and note it for the manifest."""
        first = events[0]["seq"] if first is None else first
        last = events[-1]["seq"] if last is None else last
        name = f"dt={day}/{writer}-{first:012d}-{last:012d}.jsonl{suffix}"
        raw = lines(events)
        content = packed(raw, suffix)
        if listed:
            self.listed.setdefault(writer, []).append(
                {
                    "name": name,
                    "first_seq": first,
                    "last_seq": last,
                    "bytes": len(content),
                    "raw_bytes": len(raw),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
        path = self.path / name
        return _store(path, content)

    def manifest(self, writer: str = WRITER, **fields: Any) -> Path:
        """Store a writer's manifest, with the artifacts noted for it."""
        listed = self.listed.get(writer, [])
        accepted = max((one["last_seq"] for one in listed), default=0)
        content = {
            "v": 1,
            "writer_id": writer,
            "experiment": self.experiment,
            "run": self.run,
            "created_unix_nano": START,
            "updated_unix_nano": START + 10**9,
            "state": "closed",
            "accepted": accepted,
            "delivered": accepted,
            "pending": 0,
            "dead_lettered": 0,
            "dropped": {},
            "ranges": [[1, accepted]] if accepted else [],
            "refused_ranges": [],
            "pages": [],
            "artifacts": listed,
            "parameters": {},
            "metrics": {},
            **fields,
        }
        path = self.path / f"_manifest/{writer}.json"
        return _store(path, json.dumps(content).encode())


def _store(path: Path, content: bytes) -> Path:
    """Whole or not at all, as a tracker does it: somebody may be looking."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    return path
