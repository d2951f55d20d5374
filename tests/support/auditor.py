"""An auditor of what was delivered. It shares no code with asynctrack, and must not.

It reads every object below a prefix (or a folder) with boto3, json, zstandard and gzip alone, and
knows of asynctrack only what the public contract says: the event schema and the key layout.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import zstandard

_ARTIFACT = re.compile(
    r"(?:.*/)?asynctrack/v1/experiment=[^/]+/run=[^/]+/dt=(?P<day>\d{4}-\d\d-\d\d)/"
    r"(?P<writer>[^/]+)-(?P<first>\d+)-(?P<last>\d+)\.jsonl(?P<packing>\.zst|\.gz)?"
)
_VERSIONS = (1, 2)
_ID = re.compile(r"[0-9a-f]{32}")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SHOWN = 25


@dataclass(frozen=True)
class AuditedObject:
    """One artifact: what its key says and what it holds."""

    key: str
    writer_id: str
    first_seq: int
    last_seq: int
    size: int
    """As stored, in bytes."""
    seqs: tuple[int, ...]
    """In the order of its lines."""


@dataclass(frozen=True)
class WriterAudit:
    """All events of one writer."""

    writer_id: str
    seqs: tuple[int, ...]
    """Ascending, duplicates included."""
    duplicates: Mapping[int, int]
    """How often each sequence number occurs that occurs more than once."""
    gaps: tuple[tuple[int, int], ...]
    """First and last number of each run of numbers that are missing below the highest one."""


@dataclass(frozen=True)
class Audit:
    """What the auditor found. `problems` is empty when nothing is wrong."""

    objects: tuple[AuditedObject, ...]
    writers: Mapping[str, WriterAudit]
    events: int
    """All lines that are events, duplicates included."""
    kinds: Mapping[str, int]
    """How many events there are of each kind (`chain_start`, …)."""
    open_spans: int
    """Spans that started and neither ended nor failed."""
    others: tuple[str, ...]
    """Keys that are no artifacts: manifests, unfinished files."""
    problems: tuple[str, ...]


def audit_s3(client: Any, bucket: str, prefix: str = "") -> Audit:
    """Audit all objects below a prefix, with a boto3 client. Blocks: not for an event loop."""
    return _audit(_s3_objects(client, bucket, prefix))


def audit_folder(folder: Path) -> Audit:
    """The same for a local folder."""
    return _audit(_folder_objects(folder))


def events_in_s3(client: Any, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
    """All events below a prefix, by writer and sequence number.

    Raises:
        ValueError: An artifact cannot be read.
    """
    return _events(_s3_objects(client, bucket, prefix))


def events_in_folder(folder: Path) -> list[dict[str, Any]]:
    """The same for a local folder."""
    return _events(_folder_objects(folder))


def assert_exactly_once(audit: Audit, accepted: int | Mapping[str, int] | None = None) -> None:
    """Fail unless every event is there exactly once, in order, where its key says it is.

    Args:
        audit: What was found.
        accepted: How many events were accepted, by all writers together or by each writer. Without
            it, events missing after the highest number found cannot be noticed.

    Raises:
        AssertionError: With every problem, the first ones in full.
    """
    problems = list(audit.problems)
    if isinstance(accepted, int) and audit.events != accepted:
        problems.append(f"accepted {accepted} events, found {audit.events}")
    elif isinstance(accepted, Mapping):
        for writer in sorted({*accepted, *audit.writers}):
            found = audit.writers.get(writer)
            highest = found.seqs[-1] if found else 0
            if highest != accepted.get(writer, 0):
                wanted = accepted.get(writer, 0)
                problems.append(f"{writer}: accepted {wanted} events, the last found is {highest}")
    if problems:
        more = f"\n… and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise AssertionError(
            f"{len(problems)} problems in {audit.events} events of {len(audit.objects)} objects:\n"
            + "\n".join(problems[:_SHOWN])
            + more
        )


@dataclass
class _Span:
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class Values:
    """The values of one artifact: each reference resolves to what stands before it there."""

    def __init__(self) -> None:
        self.texts: dict[str, Any] = {}
        self.lists: dict[str, list[Any]] = {}
        self.stored: Counter[str] = Counter()
        """How often each text stands there."""
        self._problems: list[str] = []
        self._before: set[int] = set()

    def event(self, record: dict[str, Any], line: bytes) -> dict[str, Any] | None:
        """An event with all that it refers to; None for the line of a value."""
        if record["event"] == "value":
            self._value(record, line)
            return None
        if self._before - {record["seq"]}:
            self._problems.append(f"values of {sorted(self._before)} before {record['seq']}")
        self._before = set()
        return {key: self.whole(item) for key, item in record.items()}

    def take_problems(self) -> list[str]:
        """What was wrong since the last time."""
        problems, self._problems = self._problems, []
        return problems

    def end(self) -> list[str]:
        """What is wrong at the end."""
        return [f"values of {sorted(self._before)} before no event"] if self._before else []

    def whole(self, one: Any) -> Any:
        """Something with all that it refers to in place."""
        if isinstance(one, list):
            return [self.whole(item) for item in one]
        if not isinstance(one, dict):
            return one
        name, fields = one.get("$ref"), list(one)
        if isinstance(name, str) and _ID.fullmatch(name):
            if fields == ["$ref", "bytes", "head"]:
                if name in self.texts:
                    return self.texts[name]
                self._problems.append(f"refers to the text {name}, which is not there")
            elif fields == ["$ref", "items", "bytes"]:
                items = self.lists.get(name, [])
                if len(items) >= one["items"]:
                    return items[: one["items"]]
                self._problems.append(f"refers to {one['items']} items of {name}: {len(items)}")
        return {key: self.whole(item) for key, item in one.items()}

    def _value(self, record: dict[str, Any], line: bytes) -> None:
        wanted = ["v", "writer_id", "seq", "time_unix_nano", "event", "name", "data"]
        if list(record) != wanted:
            self._problems.append(f"a value with the fields {list(record)}")
            return
        self._before.add(record["seq"])
        name, data = record["name"], record["data"]
        if isinstance(data, dict) and list(data) == ["from", "items"]:
            items = self.lists.setdefault(name, [])
            if data["from"] > len(items):
                self._problems.append(f"items from {data['from']} of {name}: {len(items)} before")
            end = data["from"] + len(data["items"])  # a part may come again
            items[data["from"] : end] = map(self.whole, data["items"])
            return
        stored = line.rstrip(b"\n")[line.index(b'"data":') + len('"data":') : -len("}")]
        digest = hashlib.sha256(stored).hexdigest()[:32]
        if name != digest:
            self._problems.append(f"a value {name} whose hash is {digest}")
        self.texts[name] = data
        self.stored[name] += 1


def _audit(objects: Iterable[tuple[str, bytes]]) -> Audit:
    audited: list[AuditedObject] = []
    others: list[str] = []
    problems: list[str] = []
    seqs: dict[str, list[int]] = defaultdict(list)
    kinds: Counter[str] = Counter()
    spans: dict[tuple[str, str], _Span] = defaultdict(_Span)
    for key, content in objects:
        if not _is_artifact(key):
            others.append(key)
            continue
        match = _ARTIFACT.fullmatch(key)
        if match is None:
            problems.append(f"{key}: not the key of an artifact")
            continue
        here: list[int] = []
        first_time: int | None = None
        values = Values()
        try:
            for number, line in enumerate(_lines(content, match["packing"]), 1):
                event = values.event(_parse(line, f"{key}:{number}"), line)
                problems += [f"{key}:{number}: {problem}" for problem in values.take_problems()]
                if event is None:
                    continue
                writer, seq = event["writer_id"], event["seq"]
                if writer != match["writer"]:
                    problems.append(f"{key}:{number}: an event of the writer {writer}")
                if first_time is None:
                    first_time = event["time_unix_nano"]
                here.append(seq)
                seqs[writer].append(seq)
                kinds[event["event"]] += 1
                _note_span(spans, event)
        except ValueError as error:
            problems.append(str(error) if str(error).startswith(key) else f"{key}: {error}")
        problems += [f"{key}: {problem}" for problem in values.end()]
        found = AuditedObject(
            key, match["writer"], int(match["first"]), int(match["last"]), len(content), tuple(here)
        )
        audited.append(found)
        problems.extend(_object_problems(found, match, first_time))
    writers = {writer: _writer(writer, numbers) for writer, numbers in sorted(seqs.items())}
    for found_writer in writers.values():
        problems.extend(_writer_problems(found_writer))
    problems.extend(_order_of_keys(audited))
    problems.extend(_span_problems(spans))
    return Audit(
        objects=tuple(audited),
        writers=writers,
        events=sum(kinds.values()),
        kinds=dict(kinds),
        open_spans=sum(bool(span.starts) and not span.ends for span in spans.values()),
        others=tuple(others),
        problems=tuple(problems),
    )


def _is_artifact(key: str) -> bool:
    folder, _, name = key.rpartition("/")
    return folder.rpartition("/")[2].startswith("dt=") and not name.startswith(".")


def _object_problems(
    found: AuditedObject, match: re.Match[str], first_time: int | None
) -> Iterator[str]:
    if not found.seqs:
        yield f"{found.key}: no events"
        return
    if (found.first_seq, found.last_seq) != (found.seqs[0], found.seqs[-1]):
        yield f"{found.key}: holds the events {found.seqs[0]} to {found.seqs[-1]}"
    if list(found.seqs) != list(range(found.seqs[0], found.seqs[0] + len(found.seqs))):
        yield f"{found.key}: the events are not in one unbroken order"
    if len(match["first"]) != len(match["last"]):
        yield f"{found.key}: sequence numbers of different width"
    assert first_time is not None
    day = (_EPOCH + timedelta(microseconds=first_time // 1000)).strftime("%Y-%m-%d")
    if day != match["day"]:
        yield f"{found.key}: the first event is of {day}"


def _writer(writer_id: str, numbers: list[int]) -> WriterAudit:
    counts = Counter(numbers)
    gaps, expected = [], 1
    for seq in sorted(counts):
        if seq > expected:
            gaps.append((expected, seq - 1))
        expected = seq + 1
    return WriterAudit(
        writer_id=writer_id,
        seqs=tuple(sorted(numbers)),
        duplicates={seq: count for seq, count in sorted(counts.items()) if count > 1},
        gaps=tuple(gaps),
    )


def _writer_problems(writer: WriterAudit) -> Iterator[str]:
    for first, last in writer.gaps:
        yield f"{writer.writer_id}: missing {first} to {last}"
    for seq, count in writer.duplicates.items():
        yield f"{writer.writer_id}: {seq} is there {count} times"
    if writer.seqs[0] < 1:
        yield f"{writer.writer_id}: the sequence number {writer.seqs[0]}"


def _order_of_keys(objects: list[AuditedObject]) -> Iterator[str]:
    """Within a folder, a writer's keys sort as its sequence numbers do."""
    last: dict[tuple[str, str], AuditedObject] = {}
    for found in sorted(objects, key=lambda found: found.key):
        place = (found.key.rpartition("/")[0], found.writer_id)
        if place in last and found.first_seq <= last[place].first_seq:
            yield f"{found.key}: sorts after {last[place].key}"
        last[place] = found


def _note_span(spans: dict[tuple[str, str], _Span], event: Mapping[str, Any]) -> None:
    span_id, kind = event.get("span_id"), event["event"]
    if span_id is None:
        return
    if kind.endswith("_start"):
        spans[event["writer_id"], span_id].starts.append(event["seq"])
    elif kind.endswith(("_end", "_error")):
        spans[event["writer_id"], span_id].ends.append(event["seq"])


def _span_problems(spans: Mapping[tuple[str, str], _Span]) -> Iterator[str]:
    for (writer, span_id), span in spans.items():
        starts, ends = set(span.starts), set(span.ends)  # duplicates are reported as such
        where = f"{writer}: the span {span_id}"
        if len(starts) > 1 or len(ends) > 1:
            yield f"{where} starts at {sorted(starts)} and ends at {sorted(ends)}"
        elif ends and not starts:
            yield f"{where} ends at {min(ends)} and never starts"
        elif ends and min(ends) < min(starts):
            yield f"{where} ends at {min(ends)}, before its start at {min(starts)}"


def _parse(line: bytes, where: str) -> dict[str, Any]:
    """Raises ValueError, with the place in front, for what the schema does not allow."""
    try:
        event = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(event, dict) or event.get("v") not in _VERSIONS:
        raise ValueError(f"{where}: not an event of schema version 1 or 2")
    kinds = {"writer_id": str, "seq": int, "time_unix_nano": int, "event": str}
    wrong = [name for name, kind in kinds.items() if type(event.get(name)) is not kind]
    wrong += [
        name
        for name in ("span_id", "parent_span_id", "trace_id")
        if not isinstance(event.get(name), str | None)
    ]
    if wrong:
        raise ValueError(f"{where}: missing or of a wrong type: {', '.join(wrong)}")
    return event


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _lines(content: bytes, packing: str | None) -> Iterator[bytes]:
    text = _unpacked(content, packing)
    if text and not text.endswith(b"\n"):
        raise ValueError("the last line does not end")
    yield from text.split(b"\n")[:-1]


def _unpacked(content: bytes, packing: str | None) -> bytes:
    try:
        if packing == ".gz":
            return gzip.decompress(content)
        if packing == ".zst":
            return b"".join(_frames(content))
    except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    return content


def _frames(content: bytes) -> Iterator[bytes]:
    # Frame by frame, as zstandard's reader takes a frame that was cut off for the end.
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(content)
        if not frame.eof:
            raise EOFError("the last frame is cut off")
        content = frame.unused_data


def _events(objects: Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    found = []
    for key, content in objects:
        match = _ARTIFACT.fullmatch(key) if _is_artifact(key) else None
        if match is not None:
            found += _whole(key, _lines(content, match["packing"]))
    return sorted(found, key=lambda event: (event["writer_id"], event["seq"]))


def _whole(key: str, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    values = Values()
    for number, line in enumerate(lines, 1):
        event = values.event(_parse(line, f"{key}:{number}"), line)
        for problem in values.take_problems():
            raise ValueError(f"{key}:{number}: {problem}")
        if event is not None:
            yield event


def _s3_objects(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            got = client.get_object(Bucket=bucket, Key=entry["Key"])
            with got["Body"] as body:
                yield entry["Key"], body.read()


def _folder_objects(folder: Path) -> Iterator[tuple[str, bytes]]:
    # Not rglob: what is deleted meanwhile, as a spool beside the store is, would end it.
    paths = sorted(Path(at) / name for at, _, names in os.walk(folder) for name in names)
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # missing, and counted as such where an object of the store is
        yield path.relative_to(folder).as_posix(), content
