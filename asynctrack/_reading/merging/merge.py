"""Artifacts to one stream of events: check, decode, fold duplicates, merge writers.

The events of a writer come by sequence number, each number once. Writers are merged by time: a
writer's time is the latest wall clock it has shown so far, so a clock that is set back does not
break the order of its own events.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Final

from asynctrack._errors import ChecksumError
from asynctrack._reading.decoding.events import Damage, Event, StoredEvent, read_events
from asynctrack._reading.decoding.values import Texts, Values
from asynctrack._reading.merging.fetch import Fetched, Fetcher
from asynctrack._reading.sources.listing import StoredArtifact
from asynctrack._reading.sources.manifests import Problem, Report

CLOCK_STEP: Final = 60 * 10**9
"""How far a running writer's clock may be set back without disturbing the order, in ns."""


def merged_events(
    writers: Mapping[str, Sequence[StoredArtifact]],
    created: Mapping[str, int],
    *,
    fetcher: Fetcher,
    report: Report,
    set_aside: bool,
    texts: Texts | None = None,
    resolve: bool = True,
) -> Iterator[Event]:
    """Yield the events of all writers, each once, in order.

    Args:
        writers: Each writer's artifacts by sequence number.
        created: When a writer began, in nanoseconds, if known: a writer is opened only when its
            time comes, so a thousand writers do not take a thousand times the memory.
        fetcher: Fetches the artifacts.
        report: Called with what is set aside.
        set_aside: Set artifacts aside whose checksum differs, instead of raising.
        texts: Those that events share; None shares among the events of this call.
        resolve: As for ``read_events``.

    Raises:
        ChecksumError: An artifact is not what its manifest lists.
    """
    texts = Texts() if texts is None else texts

    def opened(fetched: Fetched) -> Iterator[Event]:
        return open_artifact(fetched, report, set_aside, texts=texts, resolve=resolve)

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
            events = _writer_events(fetcher.fetch(writers[writer_id]), writers[writer_id], opened)
            first = next(events, None)
            if first is not None:
                heapq.heappush(heads, (first.time_unix_nano, writer_id, first, events))
        if not heads:
            continue
        time, writer_id, event, events = heads[0]
        # While this writer is the earliest, its events need no comparison in the heap.
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


def in_order(events: Iterable[Event], at_a_time: int = 10_000) -> Iterator[Event]:
    """Yield events by time, among so many at a time.

    Events of one writer keep their order, even if its clock is set back.
    """
    clocks: dict[str, int] = {}
    waiting: list[tuple[int, int, Event]] = []
    for number, event in enumerate(events):
        time = max(event.time_unix_nano, clocks.get(event.writer_id, 0))
        clocks[event.writer_id] = time
        heapq.heappush(waiting, (time, number, event))
        if len(waiting) > at_a_time:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _lower_bound(artifacts: Sequence[StoredArtifact], created: int) -> int:
    """Return a time before which a writer has no event."""
    day = min(artifact.place.day for artifact in artifacts)
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
        midnight = int(start.timestamp()) * 10**9
    except ValueError:  # a month 13: an object may have any name
        midnight = 0
    return max(midnight, created - CLOCK_STEP)


def _writer_events(
    fetched: Iterator[Fetched],
    artifacts: Sequence[StoredArtifact],
    open_it: Callable[[Fetched], Iterator[Event]],
) -> Iterator[Event]:
    """Yield a writer's events by sequence number, each once.

    Artifacts usually follow each other. Where they overlap, they are read side by side.
    """
    opened = 0
    last = 0
    # Of two copies of an event the delivered one counts, else that of the first artifact.
    heads: list[tuple[int, bool, int, Event, Iterator[Event]]] = []
    while opened < len(artifacts) or heads:
        while opened < len(artifacts) and (
            not heads or artifacts[opened].place.first_seq <= heads[0][0]
        ):
            events = open_it(next(fetched))
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
            twice = seq <= last
            if not twice:
                last = seq
                yield event
            following = next(events, None)
            if following is None:
                heapq.heappop(heads)
                break
            if twice and isinstance(following, StoredEvent):
                following = following.after(event)
            event, seq = following, following.seq
            if seq >= limit:
                heapq.heapreplace(heads, (seq, spooled, number, event, events))
                break


def open_artifact(
    fetched: Fetched,
    report: Report,
    set_aside: bool,
    *,
    texts: Texts | None = None,
    resolve: bool = True,
) -> Iterator[Event]:
    """Yield the events of one artifact; report everything that cannot be read.

    Args:
        fetched: The artifact.
        report: Called with what cannot be read.
        set_aside: As for ``merged_events``.
        texts: As for ``merged_events``.
        resolve: As for ``read_events``.

    Raises:
        ChecksumError: It is not what its manifest lists, and ``set_aside`` is False.
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

    sound = 0
    for event in read_events(
        fetched.content,
        artifact.key,
        artifact.place,
        damaged,
        spooled=artifact.spooled,
        values=Values(texts),
        resolve=resolve,
    ):
        sound += 1
        yield event
    lost = artifact.place.last_seq - artifact.place.first_seq + 1 - sound
    if bad and artifact.spooled and lost:  # the spool leaves such lines out
        report(Problem(uri, f"{lost} of its events are damaged", lines=lost))
    elif bad:
        reason = bad[0].reason
        if len(bad) > 1:
            reason += f"; from line {bad[1].line} on: {bad[1].reason}"
        report(Problem(uri, reason, bad[0].line, None if bad[-1].rest else lines))
