"""A Run while it grows: what is new since the last look, each event once, whatever the order in
which its artifacts arrive, and what waits in this machine's spool as well.

Writers upload several artifacts at a time, so a later one may be there first. What follows a gap
waits for it, for a while: a start that comes after its end would make two traces of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.decoding.values import Texts
from asynctrack._reading.merging.fetch import AHEAD, Fetcher
from asynctrack._reading.merging.merge import merged_events
from asynctrack._reading.sources.dead_letters import dead_letter_problems, dead_letters_of
from asynctrack._reading.sources.listing import Listing, StoredArtifact, list_run
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import (
    Metric,
    Problem,
    Report,
    merge_metrics,
    merge_parameters,
)
from asynctrack._reading.sources.ranges import Ranges, SeqSet, subtract, union
from asynctrack._reading.sources.sampled import Sampled, together
from asynctrack._reading.sources.spool import (
    Spool,
    SpoolWriter,
    waiting_artifacts,
    with_waiting,
    writers_of,
)


@dataclass(frozen=True, slots=True)
class Covered:
    """What was read of a Run.

    Attributes:
        ranges: By writer, the sequence numbers of events.
        artifacts: Addresses of artifacts that are read, and some of whose events are not in
            ``ranges``: they could not be read.
    """

    ranges: Mapping[str, Ranges] = field(default_factory=dict)
    artifacts: frozenset[str] = frozenset()


PATIENCE: Final = 10.0
"""Seconds that events wait for those before them, while their writer may still deliver these."""
FRESH: Final = 120 * 10**9
"""Nanoseconds after its last update during which an open writer counts as alive."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a Run's folder showed.

    Attributes:
        events: New events that can be read now, by the names of their artifacts.
        waiting: Events that wait for those before them.
        spooled: Events in this machine's spool that are not delivered.
        alive: Whether a writer on this machine is seen to live.
        closed: Whether all writers have ended as they should.
        updated_unix_nano: The writers' last sign of life.
    """

    events: int
    waiting: int
    spooled: int
    alive: bool
    closed: bool
    updated_unix_nano: int


class News:
    """Reads what is new in a Run.

    Args:
        found: Where the Run is.
        spool: This machine's spool; empty reads delivered events only.
        report: Told of what cannot be read; it is set aside.
        clock: Monotonic, in seconds.
        covered: What was read before.
        set_aside: Set artifacts aside whose checksum differs, instead of raising.
    """

    def __init__(
        self,
        found: Found,
        spool: Spool,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        *,
        covered: Covered | None = None,
        set_aside: bool = True,
    ) -> None:
        self._found = found
        self._spool = spool
        self._report = report
        self._clock = clock
        self._texts = Texts()
        self._looked = False
        self._seen: frozenset[tuple[str, int]] | None = None
        self._listing = Listing((), {}, {}, ())
        self._read: set[str] = set()
        self._unsound: set[str] = set((covered or Covered()).artifacts)
        self._seen_seqs: dict[str, SeqSet] = {}
        self._last: dict[str, int] = {}
        self._gaps: dict[str, tuple[int, float]] = {}
        self._ready: dict[str, list[StoredArtifact]] = {}
        self._undelivered: dict[str, Ranges] = {}
        self._spooled_to: dict[str, int] = {}
        self._waits: list[tuple[SpoolWriter, list[StoredArtifact]]] = []
        self._set_aside = set_aside
        for writer_id, ranges in (covered or Covered()).ranges.items():
            for first, last in ranges:
                self._seen_seqs.setdefault(writer_id, SeqSet()).add(first, last)
                self._last[writer_id] = last
        self._read.update((covered or Covered()).artifacts)

    @property
    def covered(self) -> Covered:
        """What was read so far."""
        ranges = {writer_id: seen.ranges for writer_id, seen in self._seen_seqs.items()}
        return Covered(ranges, frozenset(self._unsound))

    @property
    def listing(self) -> Listing:
        """What was there at the last look."""
        return self._listing

    @property
    def parameters(self) -> dict[str, Any]:
        """The Run's parameters, as of the last look."""
        return {**self._found.parameters, **merge_parameters(self._listing.writers)}

    @property
    def sampling(self) -> Sampled | None:
        """How the Run's traces are sampled, as of the last look; None where all are kept."""
        return together(writer.sampling for writer in self._listing.writers)

    @property
    def metrics(self) -> dict[str, Metric]:
        """The Run's metrics, as of the last look."""
        return merge_metrics(self._listing.writers)

    def look(self) -> Look:
        """List the Run's folder; its manifests are read only when something has changed. Blocks.

        The spool is looked at first: what leaves it meanwhile is in the folder then.

        Raises:
            ReadError: The folder cannot be read.
            BackendError: S3 said no.
        """
        self.scan()
        return self.choose()

    def scan(self) -> None:
        """Do as ``look`` does, without saying what is new: ``choose`` does. Blocks."""
        spool = [
            (writer, location)
            for location in self._found.locations
            for writer in writers_of(self._spool, location)
        ]
        problems = dead_letter_problems(dead_letters_of(self._spool, self._found.locations))
        self._waits = [
            (writer, waiting_artifacts(writer, location, problems)) for writer, location in spool
        ]
        seen = None
        if self._looked:  # the first time there is nothing to compare with
            seen = frozenset(
                (location.store.uri(found.key), found.size)
                for location in self._found.locations
                for found in location.store.objects(location.prefix)
            )
        if seen is None or seen != self._seen:
            self._looked = True
            self._listing = list_run(self._found.locations)
            self._seen = seen
            problems += self._listing.problems
            problems += [
                Problem(
                    uri,
                    "is missing: its manifest lists it, with the events"
                    f" {receipt.first_seq} to {receipt.last_seq}",
                )
                for gone in self._listing.missing.values()
                for uri, receipt in gone
            ]
        for problem in problems:
            self._report(problem)

    def choose(self, patience: float = PATIENCE, *, spooled: bool = True) -> Look:
        """Say what is new, as of the last look; ``events`` yields it.

        Args:
            patience: Seconds that events wait for those before them.
            spooled: Whether what waits in the spool counts.
        """
        listing = with_waiting(self._listing, self._waits)
        self._undelivered = _undelivered(listing)
        if not spooled:
            listing = self._listing
        writers = {writer.writer_id: writer for writer in self._listing.writers}
        self._ready = {}
        waiting = 0
        for writer_id, artifacts in listing.artifacts.items():
            # What was read before may be listed under another name: compacted, delivered.
            new = [new for one in artifacts if (new := self._new_part(one)) is not None]
            new.sort(key=lambda one: (one.place.first_seq, one.spooled))
            writer = writers.get(writer_id)
            closed = writer is not None and writer.state == "closed"
            refused = [] if writer is None else union(writer.refused_ranges)
            ready = self._in_order(writer_id, new, 0.0 if closed else patience, refused)
            waiting += sum(map(_events, new[ready:]))
            if ready:
                self._ready[writer_id] = new[:ready]
        return Look(
            events=sum(_events(one) for new in self._ready.values() for one in new),
            waiting=waiting,
            spooled=sum(
                last - first + 1 for ranges in self._undelivered.values() for first, last in ranges
            ),
            alive=any(writer.alive for writer, _ in self._waits),
            closed=bool(writers) and all(writer.state == "closed" for writer in writers.values()),
            updated_unix_nano=max((one.updated_unix_nano for one in writers.values()), default=0),
        )

    def events(self) -> Generator[Event, None, None]:
        """Yield the new events of the last look, in order. Blocks.

        Raises:
            ReadError: A file cannot be read.
            BackendError: S3 said no.
        """
        created = {one.writer_id: one.created_unix_nano for one in self._listing.writers}
        fetcher = Fetcher(AHEAD)
        try:
            events = merged_events(
                self._ready,
                created,
                fetcher=fetcher,
                report=self._report,
                set_aside=self._set_aside,
                texts=self._texts,
            )
            for event in events:
                seen = self._seen_seqs.setdefault(event.writer_id, SeqSet())
                if event.seq in seen:
                    continue  # stored twice, and read before
                seen.add(event.seq, event.seq)
                self._last[event.writer_id] = max(event.seq, self._last.get(event.writer_id, 0))
                if event.spooled:
                    self._spooled_to[event.writer_id] = event.seq
                yield event
        finally:
            fetcher.close()
        for writer_id, artifacts in self._ready.items():
            seen = self._seen_seqs.get(writer_id) or SeqSet()
            for one in artifacts:
                if not one.spooled:
                    self._read.add(one.uri)
                    if not seen.covers(one.place.first_seq, one.place.last_seq):
                        self._unsound.add(one.uri)
        self._ready = {}

    def spooled_to(self, writer_id: str) -> int:
        """Return the last number of a writer that was read from the spool, or 0."""
        return self._spooled_to.get(writer_id, 0)

    def delivered(self, writer_id: str, seq: int) -> bool:
        """Tell whether nothing up to a number waits in the spool, as of the last look."""
        ranges = self._undelivered.get(writer_id)
        return not ranges or ranges[0][0] > seq

    def _new_part(self, artifact: StoredArtifact) -> StoredArtifact | None:
        """Return what was not read yet of an artifact, or of a segment that grows."""
        place = artifact.place
        seen = self._seen_seqs.setdefault(place.writer_id, SeqSet())
        # An artifact is read once, even if some of its lines cannot be; and not at all if its
        # events came from the spool, or from the segment that it replaces.
        if artifact.uri in self._read or seen.covers(place.first_seq, place.last_seq):
            return None
        if not artifact.spooled:
            return artifact
        first = seen.first_missing(place.first_seq)
        path = artifact.key.rpartition(":")[0]
        key, place = f"{path}:{first}-{place.last_seq}", replace(place, first_seq=first)
        return replace(artifact, key=key, place=place)

    def _in_order(
        self,
        writer_id: str,
        new: list[StoredArtifact],
        patience: float,
        refused: Ranges,
    ) -> int:
        """Return how many of a writer's new artifacts can be read now.

        Nobody waits for what the backend refused for good.
        """
        last = self._last.get(writer_id, 0)
        for n, artifact in enumerate(new):
            gap_here = [(last + 1, artifact.place.first_seq - 1)]
            if artifact.place.first_seq > last + 1 and patience > 0 and subtract(gap_here, refused):
                gap, since = self._gaps.get(writer_id, (0, 0.0))
                if gap != last:
                    self._gaps[writer_id] = (last, self._clock())
                    return n
                if self._clock() - since < patience:
                    return n
            last = max(last, artifact.place.last_seq)
        self._gaps.pop(writer_id, None)
        return len(new)


def _events(artifact: StoredArtifact) -> int:
    return artifact.place.last_seq - artifact.place.first_seq + 1


def _undelivered(listing: Listing) -> dict[str, Ranges]:
    """Return what waits in the spool and is not delivered, by writer."""
    found = {}
    for writer_id, artifacts in listing.artifacts.items():
        waits = union((one.place.first_seq, one.place.last_seq) for one in artifacts if one.spooled)
        if waits:
            there = union(
                (one.place.first_seq, one.place.last_seq) for one in artifacts if not one.spooled
            )
            left = subtract(waits, there)
            if left:
                found[writer_id] = left
    return found
