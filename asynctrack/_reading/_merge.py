"""Artifacts to one stream of Events: fetch ahead, check, unpack, fold duplicates, merge writers.

Within a writer the order is that of the sequence numbers, and each number comes once. Writers are
merged by time: a writer's time is the latest wall clock it has shown so far, so that a clock that
was set back does not break the order of its own events.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from asynctrack._errors import ChecksumError
from asynctrack._reading._decode import Damage, Event, read_events
from asynctrack._reading._listing import StoredArtifact, find_compacted, find_delivered
from asynctrack._reading._manifests import Problem, Report
from asynctrack._reading._sources import GoneError

AHEAD: Final = 8
"""Artifacts that are fetched at a time."""
AHEAD_BYTES: Final = 64 * 1024 * 1024
"""Their size as stored, in bytes; one for each writer is fetched in any case."""
CLOCK_STEP: Final = 60 * 10**9
"""By how much a clock may be set back while a writer runs without disturbing the order, in ns."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact's bytes, or None where it is not there any more, and their checksum."""

    artifact: StoredArtifact
    content: bytes | None
    sha256: str

    @property
    def intact(self) -> bool:
        """Whether the checksum is the one listed, as far as one is listed."""
        return self.artifact.sha256 is None or self.artifact.sha256 == self.sha256


class Fetcher:
    """Fetches artifacts in threads, a bounded number and size ahead of their reader.

    Args:
        ahead: How many at a time.
        ahead_bytes: Their size at the most, in bytes.
    """

    def __init__(self, ahead: int = AHEAD, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._ahead = ahead
        self._ahead_bytes = ahead_bytes
        self._pool = ThreadPoolExecutor(ahead, thread_name_prefix="asynctrack-read")
        self._bytes = 0
        self._streams = 0

    def fetch(self, artifacts: Iterable[StoredArtifact]) -> Iterator[Fetched]:
        """Yield artifacts with their bytes, in the order given."""
        todo = iter(artifacts)
        upcoming = next(todo, None)
        waiting: deque[tuple[StoredArtifact, Future[Fetched]]] = deque()
        self._streams += 1
        try:
            while upcoming is not None or waiting:
                while upcoming is not None and (
                    not waiting or self._has_room(len(waiting), upcoming)
                ):
                    waiting.append((upcoming, self._pool.submit(_fetch, upcoming)))
                    self._bytes += upcoming.size
                    upcoming = next(todo, None)
                artifact, future = waiting.popleft()
                try:
                    fetched = future.result()
                finally:
                    self._bytes -= artifact.size
                yield fetched
        finally:
            self._streams -= 1
            for artifact, future in waiting:
                self._bytes -= artifact.size
                future.cancel()

    def close(self) -> None:
        """Stop; what is being fetched is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _has_room(self, waiting: int, artifact: StoredArtifact) -> bool:
        share = self._ahead // self._streams
        return waiting < share and self._bytes + artifact.size <= self._ahead_bytes


def merged_events(
    writers: Mapping[str, Sequence[StoredArtifact]],
    created: Mapping[str, int],
    *,
    fetcher: Fetcher,
    report: Report,
    set_aside: bool,
) -> Iterator[Event]:
    """Yield the events of all writers, each once, in order.

    Args:
        writers: Each writer's artifacts by sequence number.
        created: When a writer began, in nanoseconds, where that is known: a writer is opened only
            when its time has come, so that a thousand of them do not take a thousand's memory.
        fetcher: Fetches the artifacts.
        report: Told of what is set aside.
        set_aside: Set artifacts aside whose checksum differs, instead of raising.

    Raises:
        ChecksumError: An artifact is not what its manifest lists.
    """
    closed = sorted(
        (_lower_bound(artifacts, created.get(writer_id, 0)), writer_id)
        for writer_id, artifacts in writers.items()
        if artifacts
    )
    closed.reverse()  # the next one is popped from the end
    heads: list[tuple[int, str, Event, Iterator[Event]]] = []
    while closed or heads:
        while closed and (not heads or closed[-1][0] <= heads[0][0]):
            _, writer_id = closed.pop()
            events = _writer_events(writers[writer_id], fetcher, report, set_aside)
            first = next(events, None)
            if first is not None:
                heapq.heappush(heads, (first.time_unix_nano, writer_id, first, events))
        if not heads:
            continue
        time, writer_id, event, events = heads[0]
        # As long as this writer is the earliest, its events need no comparison in the heap.
        others = [head[:2] for head in heads[1:3]]
        if closed:
            others.append((closed[-1][0], ""))
        limit = min(others, default=None)
        while True:
            yield event
            following = next(events, None)
            if following is None:
                heapq.heappop(heads)
                break
            event = following
            time = max(time, event.time_unix_nano)
            if limit is not None and (time, writer_id) > limit:
                heapq.heapreplace(heads, (time, writer_id, event, events))
                break


def _lower_bound(artifacts: Sequence[StoredArtifact], created: int) -> int:
    """Return a time before which a writer has no event."""
    day = min(artifact.place.day for artifact in artifacts)
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
        midnight = int(start.timestamp()) * 10**9
    except ValueError:  # a month 13: any object may be called anything
        midnight = 0
    return max(midnight, created - CLOCK_STEP)


def _writer_events(
    artifacts: Sequence[StoredArtifact], fetcher: Fetcher, report: Report, set_aside: bool
) -> Iterator[Event]:
    """Yield a writer's events by sequence number, each once.

    Artifacts usually follow each other. Where they overlap, they are read side by side.
    """
    fetched = fetcher.fetch(artifacts)
    opened = 0
    last = 0
    # Of two copies of an event the delivered one counts, then the one of the first artifact.
    heads: list[tuple[int, bool, int, Event, Iterator[Event]]] = []
    while opened < len(artifacts) or heads:
        while opened < len(artifacts) and (
            not heads or artifacts[opened].place.first_seq <= heads[0][0]
        ):
            events = open_artifact(next(fetched), report, set_aside)
            opened += 1
            first = next(events, None)
            if first is not None:
                heapq.heappush(heads, (first.seq, first.spooled, opened, first, events))
        if not heads:
            continue
        seq, spooled, number, event, events = heads[0]
        limit = min((head[0] for head in heads[1:3]), default=2**64)
        if opened < len(artifacts):
            limit = min(limit, artifacts[opened].place.first_seq)
        while True:
            if seq > last:
                last = seq
                yield event
            following = next(events, None)
            if following is None:
                heapq.heappop(heads)
                break
            event, seq = following, following.seq
            if seq >= limit:
                heapq.heapreplace(heads, (seq, spooled, number, event, events))
                break


def open_artifact(fetched: Fetched, report: Report, set_aside: bool) -> Iterator[Event]:
    """Yield the events of one artifact; report everything that cannot be read.

    Raises:
        ChecksumError: It is not what its manifest lists, and is not to be set aside.
    """
    artifact = fetched.artifact
    uri = artifact.uri
    if fetched.content is None:
        report(Problem(uri, "was listed, and is not there any more"))
        return
    if not fetched.intact:
        error = ChecksumError(uri, str(artifact.sha256), fetched.sha256)
        if not set_aside:
            raise error
        report(Problem(uri, f"its SHA-256 is {fetched.sha256}, the manifest lists another"))
        return
    bad: list[Damage] = []  # the first line, and what ended the artifact; never one for each line
    lines = 0

    def damaged(damage: Damage) -> None:
        nonlocal lines
        lines += 1
        if damage.rest or not bad:
            bad.append(damage)

    events = read_events(fetched.content, artifact.key, artifact.place, damaged)
    if artifact.spooled:
        sound = 0
        for event in events:
            sound += 1
            yield Event(event.raw, True, event.size)
        if bad:  # such lines are left out of what the spool gives
            lost = artifact.place.last_seq - artifact.place.first_seq + 1 - sound
            report(Problem(uri, f"{lost} of its events are damaged", lines=lost))
        return
    yield from events
    if bad:
        reason = bad[0].reason
        if len(bad) > 1:
            reason += f"; from line {bad[1].line} on: {bad[1].reason}"
        report(Problem(uri, reason, bad[0].line, None if bad[-1].rest else lines))


def _fetch(artifact: StoredArtifact) -> Fetched:
    fetched = _read(artifact)
    # Once more before it is called damaged: the bytes may have changed on their way.
    return fetched if fetched.content is None or fetched.intact else _read(artifact)


def _read(artifact: StoredArtifact) -> Fetched:
    try:
        content = artifact.store.read(artifact.key)
    except GoneError:
        # The segment of a living writer: delivered since it was looked at, and only then deleted.
        # A segment of S3 or a folder: compacted, and only then deleted.
        there = find_delivered(artifact) if artifact.spooled else find_compacted(artifact)
        return Fetched(artifact, None, "") if there is None else _read(there)
    return Fetched(artifact, content, hashlib.sha256(content).hexdigest())
