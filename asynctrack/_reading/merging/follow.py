"""Follows a Run that is being written: its events as they come, each once.

On the machine that writes the Run, they come from the spool, a moment after they are logged.
Everywhere else, and where the spool was too quick to see, they come from the objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from asynctrack._format import ArtifactName, parse_artifact_name, parse_line_start
from asynctrack._reading.decoding.events import Damage, Event, read_events
from asynctrack._reading.decoding.segment_reader import SegmentReader
from asynctrack._reading.decoding.values import Texts, Values
from asynctrack._reading.merging.fetch import Fetched, Fetcher
from asynctrack._reading.merging.merge import open_artifact
from asynctrack._reading.sources.dead_letters import dead_letter_problems, dead_letter_ranges
from asynctrack._reading.sources.listing import StoredArtifact, list_run
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import Problem, read_manifests
from asynctrack._reading.sources.ranges import SeqSet
from asynctrack._reading.sources.spool import Spool, SpoolWriter, is_same_s3, writers_of
from asynctrack._reading.sources.stores import Location
from asynctrack._spool.layout import waiting_segments
from asynctrack._spool.segment_format import SegmentError

RECENT_WRITERS: Final = 8
"""The youngest writers: their last artifact shows what came before."""
_DAYS: Final = 2
"""Days whose objects are listed each time; older ones only with ``all_days``."""
_OBJECTS: Final = 32
"""Objects that are read at a time."""
_LINES: Final = 1_000
"""Lines of a segment that are decoded at a time."""


class Follower:
    """How far a reader has come in a Run that goes on.

    Args:
        found: The Run.
        spool: This machine's spool; empty follows the objects only.
    """

    def __init__(self, found: Found, spool: Spool) -> None:
        self._found = found
        self._spool = spool
        self._seen: dict[str, SeqSet] = {}
        self._segments: dict[Path, SegmentReader] = {}
        self._texts = Texts()
        # What is known of each segment's values: later events refer to them, too.
        self._values: dict[SegmentReader, Values] = {}
        self._drained: set[Path] = set()
        self._known: set[tuple[str, str]] = set()
        self._dead: set[str] = set()
        self._problems: list[Problem] = []

    def close(self) -> None:
        """Close the segments that are open."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._values.clear()

    @property
    def local(self) -> bool:
        """Whether a writer of it lives on this machine. Blocks."""
        return any(writer.alive for _, writer in self._writers())

    def take_problems(self) -> list[Problem]:
        """Return what could not be read since the last call."""
        problems, self._problems = self._problems, []
        return problems

    def last(self, count: int) -> list[Event]:
        """Return the last events, and count all that are there as seen. Blocks.

        Args:
            count: How many at most; several writers are ordered by the clock.

        Raises:
            ReadError: A folder cannot be read.
            BackendError: S3 said no.
        """
        # The spool before the listing, as everywhere: what leaves the spool is in the listing.
        waiting = self.last_spooled(count)
        artifacts = self.skip(self.everything())
        return self.merged_ends(count, waiting, self.fetch(self.ends(artifacts) if count else ()))

    def last_spooled(self, count: int) -> list[Event]:
        """Return the last events in the spool, and count all in it as seen. Blocks."""
        return list(deque(self.from_spool(), maxlen=count))

    def everything(self) -> Mapping[str, Sequence[StoredArtifact]]:
        """Return all objects there are, by writer. Blocks; changes nothing here.

        Raises:
            ReadError: A folder cannot be read.
            BackendError: S3 said no.
        """
        return list_run(self._found.locations).artifacts

    def skip(
        self, artifacts: Mapping[str, Sequence[StoredArtifact]]
    ) -> Mapping[str, Sequence[StoredArtifact]]:
        """Count objects as seen, without reading them."""
        for writer_id, stored in artifacts.items():
            seen = self._seen.setdefault(writer_id, SeqSet())
            for one in stored:
                self._known.add((one.store.uri(""), one.key))
                seen.add(one.place.first_seq, one.place.last_seq)
        return artifacts

    def ends(self, artifacts: Mapping[str, Sequence[StoredArtifact]]) -> list[StoredArtifact]:
        """Return the last objects of the youngest writers."""
        # Ids of writers begin with the time at which they began.
        return [artifacts[writer_id][-1] for writer_id in sorted(artifacts)[-RECENT_WRITERS:]]

    def merged_ends(
        self, count: int, waiting: Iterable[Event], fetched: Iterable[Fetched]
    ) -> list[Event]:
        """Return the last events of these objects and of what waits in the spool."""
        events = {
            (one.writer_id, one.seq): one for some in fetched for one in self._events_in(some)
        }
        events.update(((one.writer_id, one.seq), one) for one in waiting)
        ordered = sorted(events.values(), key=_order)
        return ordered[max(0, len(ordered) - count) :]

    def seen(self, event: Event) -> bool:
        """Note an event; tell whether it was seen before."""
        seen = self._seen.setdefault(event.writer_id, SeqSet())
        if event.seq in seen:
            return True
        seen.add(event.seq, event.seq)
        return False

    def from_spool(self) -> Iterator[Event]:
        """Yield what is new in this machine's spool. Blocks.

        A writer's segments come in order, those of several writers one after the other. Dead
        letters are left out: each of their files is a problem, once.
        """
        writers = [writer for _, writer in self._writers()]
        self._note_dead_letters(writers)
        waiting = {
            # By its number, as its name may change meanwhile.
            path.with_suffix(""): path
            for writer in writers
            for path in waiting_segments(writer.path)
        }
        gone = [stem for stem in self._segments if stem not in waiting]
        unfinished: SegmentReader | None = None
        for stem in [*gone, *waiting]:
            if stem in self._drained:
                continue
            segment = self._segments.get(stem) or self._open(waiting[stem])
            if segment is None:
                continue
            self._segments[stem] = segment
            if unfinished is not None and unfinished.path.parent == segment.path.parent:
                if not _begun(segment):
                    continue
                # It gets no more lines now, but may have gone on since it was read.
                yield from self._of_segment(unfinished)
            # Checked before the read: a segment that is sealed now is then read to its end.
            complete = not stem.with_suffix(".open").exists()
            yield from self._of_segment(segment)
            unfinished = None if complete else segment
            if complete:
                segment.close()
                del self._segments[stem]
                self._values.pop(segment, None)
                self._drained.add(stem)
        self._drained.intersection_update(waiting)

    def from_objects(self, *, all_days: bool = False) -> Iterator[Event]:
        """Yield the events of new objects. Blocks.

        Args:
            all_days: Whether to list the objects of older days as well.

        Raises:
            ReadError: A folder cannot be read.
            BackendError: S3 said no.
        """
        while fresh := self.new_objects(all_days=all_days):
            yield from self.events_of(self.fetch(fresh))

    def new_objects(self, *, all_days: bool = False) -> list[StoredArtifact]:
        """Return new objects, the first ones if there are many. Blocks.

        May run in another thread, one call at a time, beside the methods that do not block.

        Raises:
            ReadError: A folder cannot be read.
            BackendError: S3 said no.
        """
        fresh = []
        for location in self._found.locations:
            days = [
                folder
                for folder in location.store.folders(location.prefix)
                if folder[len(location.prefix) :].startswith("dt=")
            ]
            for folder in days if all_days else days[-_DAYS:]:
                fresh += self._new_in(location, folder)
        fresh.sort(key=lambda one: (one.place.writer_id, one.place.first_seq))
        return fresh[:_OBJECTS]

    def fetch(self, artifacts: Iterable[StoredArtifact]) -> list[Fetched]:
        """Read objects. Blocks; changes nothing here.

        Raises:
            BackendError: S3 said no.
        """
        fetcher = Fetcher()
        try:
            return list(fetcher.fetch(artifacts))
        finally:
            fetcher.close()

    def events_of(self, fetched: Iterable[Fetched]) -> Iterator[Event]:
        """Yield the new events of objects, and count the objects as seen."""
        for one in fetched:
            for event in self._events_in(one):
                if not self.seen(event):
                    yield event
            self._known.add((one.artifact.store.uri(""), one.artifact.key))

    def closed(self) -> bool:
        """Tell whether all its writers have ended as they should. Blocks.

        Raises:
            ReadError: A folder cannot be read.
            BackendError: S3 said no.
        """
        if self.local:
            return False
        problems: list[Problem] = []
        manifests = [
            manifest
            for location in self._found.locations
            for manifest in read_manifests(location, problems)
        ]
        return bool(manifests) and all(one.state == "closed" for one in manifests)

    def _writers(self) -> Iterator[tuple[Location, SpoolWriter]]:
        for location in self._found.locations:
            for writer in writers_of(self._spool, location):
                if writer.writer_id in self._seen or is_same_s3(writer, location.store):
                    yield location, writer

    def _note_dead_letters(self, writers: Iterable[SpoolWriter]) -> None:
        found = [one for writer in writers for one in dead_letter_ranges(writer)]
        fresh = [one for one in found if not self._dead.issuperset(one.objects)]
        self._dead.update(path for one in fresh for path in one.objects)
        self._problems += dead_letter_problems(fresh)

    def _open(self, path: Path) -> SegmentReader | None:
        try:
            return SegmentReader(path)
        except FileNotFoundError:
            return None  # delivered: it is listed
        except (SegmentError, OSError) as error:
            self._problems.append(Problem(str(path), f"cannot be read: {error}"))
            self._drained.add(path.with_suffix(""))
            return None

    def _of_segment(self, segment: SegmentReader) -> Iterator[Event]:
        lines: list[tuple[int, bytes]] = []
        try:
            for seq, line in segment.more():
                if not line:
                    self._problems.append(Problem(str(segment.path), f"event {seq} is damaged"))
                    continue
                lines.append((seq, line))
                if len(lines) >= _LINES:
                    yield from self._decoded(segment, lines)
                    lines = []
        except (SegmentError, OSError) as error:
            self._problems.append(Problem(str(segment.path), f"cannot be read: {error}"))
        if lines:
            yield from self._decoded(segment, lines)

    def _decoded(self, segment: SegmentReader, lines: list[tuple[int, bytes]]) -> Iterator[Event]:
        start = parse_line_start(lines[0][1])
        place = ArtifactName(start[0] if start else "", lines[0][0], lines[-1][0], "")

        def damaged(damage: Damage) -> None:
            if not damage.rest:  # missing numbers are reported already
                self._problems.append(Problem(str(segment.path), damage.reason))

        content = b"".join(line for _, line in lines)
        values = self._values.setdefault(segment, Values(self._texts))
        for event in read_events(content, "", place, damaged, spooled=True, values=values):
            if not self.seen(event):
                yield event

    def _events_in(self, fetched: Fetched) -> Iterator[Event]:
        return open_artifact(fetched, self._problems.append, set_aside=True, texts=self._texts)

    def _new_in(self, location: Location, folder: str) -> list[StoredArtifact]:
        fresh = []
        where = location.store.uri("")
        for found in location.store.objects(folder):
            place = parse_artifact_name(found.key[len(location.prefix) :])
            if place is None or (where, found.key) in self._known:
                continue
            seen = self._seen.get(place.writer_id)
            if seen is None or not seen.covers(place.first_seq, place.last_seq):
                fresh.append(StoredArtifact(location.store, found.key, found.size, place, None))
            else:
                self._known.add((where, found.key))
        return fresh


def _begun(segment: SegmentReader) -> bool:
    try:
        return segment.begun
    except (SegmentError, OSError):
        return True  # reading it says what is wrong


def _order(event: Event) -> tuple[int, str, int]:
    return event.time_unix_nano, event.writer_id, event.seq
