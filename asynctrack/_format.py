"""The one contract on disk and in S3: schema version, field prefix and key layout.

The write path and the read path both build on this module, and on nothing else of each other::

    <prefix>/asynctrack/v1/experiment=<E>/run=<R>/dt=<YYYY-MM-DD>/<writer>-<first>-<last>.jsonl.zst
    <prefix>/asynctrack/v1/experiment=<E>/run=<R>/_manifest/<writer>.json

``compact`` writes the same events a second time beside them, with the same Hive keys::

    <prefix>/asynctrack/v1-compact/experiment=<E>/run=<R>/dt=<YYYY-MM-DD>/<id>.parquet
    <prefix>/asynctrack/v1-compact/experiment=<E>/run=<R>/_manifest/<id>.json

Change it only together with ``SCHEMA_VERSION``, the keys with ``LAYOUT_VERSION``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

SCHEMA_VERSION = 2
"""Version of the lines that are written. Lines of version 1, which knew no values, are read."""

LAYOUT_VERSION = 1
"""Version of keys and manifests."""

SEQ_DIGITS = 12
"""Width of sequence numbers in keys; zeros in front make keys sort by number."""

SUFFIXES = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}
"""Ending of an artifact's key for each compression."""

MEDIA_TYPE = "application/x-ndjson"
"""Media type of artifacts; SageMaker's pattern for media types allows no dot."""

SAMPLING = "sampling"
"""Where the start of a root says in its ``data`` how the trace was sampled: ``rate``, and
``keep_errors`` where failed traces are kept whatever it is."""

ACCESS_POINT = re.compile(
    r"arn:[a-z-]+:s3[a-z-]*:[a-z0-9-]*:\d{12}:(?:outpost[/:][A-Za-z0-9-]+[/:])?"
    r"accesspoint[/:][A-Za-z0-9.-]{1,63}",
    re.ASCII,
)
"""An access point, which S3 takes instead of a bucket; see "Access point ARNs" in the S3 User
Guide."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,118}")
_ARTIFACT = re.compile(
    r"dt=(?P<day>\d{4}-\d{2}-\d{2})/(?P<writer>[0-9a-f]+)"
    rf"-(?P<first>\d{{{SEQ_DIGITS},}})-(?P<last>\d{{{SEQ_DIGITS},}})\.jsonl(?:\.zst|\.gz)?",
    re.ASCII,
)
_LINE_START = re.compile(rb'\{"v":[12],"writer_id":"([0-9a-f]+)","seq":(\d{1,19}),')
_TIME_FIELD = b',"time_unix_nano":'


def is_valid_name(name: str) -> bool:
    """Return whether a name may stand as ``experiment=`` or ``run=`` in a key."""
    return _NAME.fullmatch(name) is not None


def run_prefix(prefix: str, experiment: str, run: str) -> str:
    """Return the folder of one Run, ending in a slash.

    Args:
        prefix: What stands before it, without a slash at either end; may be empty.
        experiment: The experiment's name.
        run: The Run's name.
    """
    stem = f"{prefix}/" if prefix else ""
    return f"{stem}asynctrack/v{LAYOUT_VERSION}/experiment={experiment}/run={run}/"


def compact_prefix(prefix: str) -> str:
    """Return the folder of a Run's compacted events, for the folder of the Run.

    It is beside the Run's folder, so an engine finds one format below each of the two roots.
    """
    root = f"asynctrack/v{LAYOUT_VERSION}"
    before, _, below = prefix.rpartition(f"{root}/experiment=")
    return f"{before}{root}-compact/experiment={below}"


def compact_name(day: str, file_id: str) -> str:
    """Return the key of a Parquet file below ``compact_prefix``."""
    return f"dt={day}/{file_id}.parquet"


def compact_manifest_name(file_id: str) -> str:
    """Return the key, below ``compact_prefix``, of the manifest of a Parquet file."""
    return f"_manifest/{file_id}.json"


def artifact_name(
    writer_id: str, first_seq: int, last_seq: int, time_unix_nano: int, compression: str
) -> str:
    """Return an artifact's key below the Run's folder.

    Args:
        writer_id: Who accepted the events.
        first_seq: Sequence number of the first event.
        last_seq: Sequence number of the last event.
        time_unix_nano: Wall clock of the first event; it fixes the UTC day of the key.
        compression: One of ``SUFFIXES``.
    """
    day = datetime.fromtimestamp(time_unix_nano // 10**9, tz=timezone.utc).strftime("%Y-%m-%d")
    first, last = (f"{seq:0{SEQ_DIGITS}d}" for seq in (first_seq, last_seq))
    return f"dt={day}/{writer_id}-{first}-{last}{SUFFIXES[compression]}"


def manifest_name(writer_id: str, page: int | None = None) -> str:
    """Return a manifest's key below the Run's folder; full pages have a number."""
    middle = "" if page is None else f".{page:06d}"
    return f"_manifest/{writer_id}{middle}.json"


def replay_name(writer_id: str, replayed_by: str) -> str:
    """Return the key, below the Run's folder, of what one writer delivered for another."""
    return f"_manifest/{writer_id}.replayed-{replayed_by}.json"


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """What the key of an artifact says about it."""

    writer_id: str
    first_seq: int
    last_seq: int
    day: str


def parse_artifact_name(name: str) -> ArtifactName | None:
    """Read an artifact's key below the Run's folder; None if it is not one."""
    match = _ARTIFACT.fullmatch(name)
    if match is None:
        return None
    return ArtifactName(match["writer"], int(match["first"]), int(match["last"]), match["day"])


def line_prefix(writer_id: str) -> bytes:
    """Return the first bytes of every line of a writer, up to the sequence number."""
    return b'{"v":%d,"writer_id":"%s","seq":' % (SCHEMA_VERSION, writer_id.encode())


def number_line(prefix: bytes, seq: int, body: bytes) -> bytes:
    """Return an event's line: the result of ``line_prefix``, its number, its body, a line end."""
    return b"".join((prefix, b"%d," % seq, body[1:], b"\n"))  # half the time of formatting


def parse_line_start(line: bytes) -> tuple[str, int] | None:
    """Return the writer and the sequence number in a line; None if it starts otherwise."""
    match = _LINE_START.match(line)
    return None if match is None else (match[1].decode(), int(match[2]))


def line_time(line: bytes) -> int:
    """Return the wall clock in a line, in nanoseconds, without decoding it.

    Every body starts with ``time_unix_nano``; capture guarantees that.

    Raises:
        ValueError: The line starts otherwise.
    """
    start = line.find(_TIME_FIELD, 0, 200) + len(_TIME_FIELD)
    if start < len(_TIME_FIELD):
        raise ValueError("an event's body starts with time_unix_nano")
    end = min(at for at in (line.find(b",", start), line.find(b"}", start)) if at > 0)
    return int(line[start:end])
