"""What waits in this machine's spool for its delivery, read as a part of its Run.

Reading changes nothing and takes no lock: writers and replays go on. It looks into the spool first
and at the place of delivery then. A segment is deleted only after its artifact is stored, so each
event is in one of them, or in both, and then its number folds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Union

from asynctrack._backends.protocol import GoneError, StoredObject
from asynctrack._backends.s3_read import S3Store
from asynctrack._backends.way import store_of
from asynctrack._errors import OptionError
from asynctrack._format import ArtifactName
from asynctrack._options import whole_path
from asynctrack._reading.decoding.events import read_events
from asynctrack._reading.decoding.segment_reader import SegmentReader
from asynctrack._reading.sources.listing import Listing, StoredArtifact
from asynctrack._reading.sources.manifests import Problem, as_in_the_run
from asynctrack._reading.sources.ranges import SeqRange, union
from asynctrack._reading.sources.stores import Location, Store
from asynctrack._spool.layout import (
    SpoolPlace,
    dead_letters_in,
    is_alive,
    read_description,
    spool_places,
    usable_spools,
    waiting_segments,
    writers,
)
from asynctrack._spool.segment_format import SegmentError

VARIABLE: Final = "ASYNCTRACK_SPOOL_DIR"
_PARAMETERS: Final = b'"event":"parameters"'
_HEAD: Final = 300
"""Bytes of a line in which the name of its event stands."""
GivenSpool = Union[str, "os.PathLike[str]", bool, None]
"""The spool as users give it: a folder, True for the default one, False or None for none."""
Spool = tuple[SpoolPlace, ...]
"""Every place where events may wait on this machine; empty: do not look."""


@dataclass(frozen=True, slots=True)
class SpoolWriter:
    """A writer that has a folder in the spool.

    Attributes:
        path: The folder.
        experiment: The experiment's name; empty if it does not say.
        run: The Run's name; empty if it does not say.
        uri: Where its events belong, ending in a slash; empty if it does not know yet.
        s3: What its bucket's name is unique in; empty for a folder, or if it does not say.
    """

    path: Path
    experiment: str
    run: str
    uri: str
    s3: str

    @property
    def writer_id(self) -> str:
        """Who."""
        return self.path.name

    @property
    def alive(self) -> bool:
        """Whether it lives, or a replay works on its events right now. Blocks."""
        return is_alive(self.path)

    def dead_letters(self) -> list[Path]:
        """Return the files of events that the backend refused for good. Blocks."""
        return dead_letters_in(self.path)

    def set_aside(self) -> list[Path]:
        """Return the damaged segments that a replay set aside. Blocks."""
        return sorted(self.path.glob("*.damaged"))


def this_spool(given: GivenSpool = True) -> Spool:
    """Return the spool that the user means: where trackers look, or one folder.

    Raises:
        OptionError: It is no folder's name.
    """
    if given is True:
        given = os.environ.get(VARIABLE, "")
        if not given:
            return spool_places()
    if given is None or given is False:
        return ()
    if not isinstance(given, (str, os.PathLike)):
        raise OptionError("spool_dir", given, "a folder, True for this machine's own, or False")
    return spool_places(whole_path("spool_dir", given))


def spool_writers(spool: Spool) -> list[SpoolWriter]:
    """Return all writers in the spool, oldest first. Blocks."""
    found = [path for folder in usable_spools(spool) for path in writers(folder)]
    return [_writer(path) for path in sorted(found, key=lambda path: path.name)]


def writers_of(spool: Spool, location: Location) -> list[SpoolWriter]:
    """Return the writers in the spool that say that their events belong to a Run. Blocks.

    ``is_same_s3`` tells whether it is the same S3: two servers may have buckets of one name.
    """
    return [
        writer
        for writer in spool_writers(spool)
        if writer.uri and _same_place(writer.uri, location)
    ]


def spooled_runs(spool: Spool, store: Store, prefix: str) -> list[str]:
    """Return the keys of Runs below a prefix that have segments in the spool. Blocks."""
    prefix = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    below = store.uri(prefix)
    found = {}
    for writer in spool_writers(spool):
        inside = _inside(writer.uri, below)
        if inside and is_same_s3(writer, store):
            found[prefix + inside] = bool(waiting_segments(writer.path))
    return [key for key, waits in found.items() if waits]


def is_same_s3(writer: SpoolWriter, store: Store) -> bool:
    """Tell whether a writer delivers to a store's S3; True if it does not say."""
    if not isinstance(store, S3Store) or not writer.s3:
        return True
    # A reader may name no region, and only that tells AWS's partitions apart.
    return writer.s3 == store.s3 or (writer.s3.startswith("aws") and store.s3.startswith("aws"))


def waiting_artifacts(
    writer: SpoolWriter, location: Location, problems: list[Problem]
) -> list[StoredArtifact]:
    """Return a writer's segments, each in place of the artifact it will become. Blocks.

    Args:
        writer: Whose.
        location: Where they will be delivered to.
        problems: Gets those that cannot be read.
    """
    store = SpoolStore()
    found = []
    for path in _newest_first(writer):
        try:
            with SegmentReader(path) as segment:
                extent = segment.extent()
        except FileNotFoundError:
            continue  # delivered: the listing has it
        except (SegmentError, OSError) as error:
            problems.append(Problem(str(path), f"cannot be read: {error}"))
            continue
        if extent is None:
            continue
        day = datetime.fromtimestamp(extent.time_unix_nano // 10**9, tz=timezone.utc)
        place = ArtifactName(
            extent.writer_id, extent.first_seq, extent.last_seq, day.strftime("%Y-%m-%d")
        )
        key = f"{path}:{extent.first_seq}-{extent.last_seq}"
        found.append(StoredArtifact(store, key, extent.size, place, None, location))
    return found[::-1]


def spooled_parameters(writer: SpoolWriter) -> dict[str, Any]:
    """Return the parameters a writer logged that no manifest has yet. Blocks."""
    found: dict[str, Any] = {}
    for path in _newest_first(writer):
        try:
            with SegmentReader(path) as segment:
                parts = [
                    (seq, line if _PARAMETERS in line[start : start + _HEAD] else line[:start])
                    for seq, line in segment.more()
                    for start in (_event_start(line),)
                ]
        except (SegmentError, OSError):
            continue  # reading the events says so
        if not parts:
            continue
        place = ArtifactName(writer.writer_id, parts[0][0], parts[-1][0], "")
        content = b"".join(line for _, line in parts)
        logged: dict[str, Any] = {}
        for event in read_events(content, "", place, lambda _: None):
            if event.event == "parameters" and isinstance(event.data, dict):
                logged.update(as_in_the_run(event.data))
        found = {**logged, **found}
    return found


def waiting_ranges(writer: SpoolWriter) -> list[SeqRange]:
    """Return the sequence numbers of all sound lines that wait, with their files. Blocks."""
    found: list[SeqRange] = []
    for path in _newest_first(writer):
        try:
            with SegmentReader(path) as segment:
                numbers = [(seq, seq) for seq, line in segment.more() if line]
        except (SegmentError, OSError):
            continue  # delivered, or unreadable: asynctrack spool verify says so
        found += (SeqRange(first, last, (str(path),)) for first, last in union(numbers))
    return found


def with_waiting(
    listing: Listing, waiting: Iterable[tuple[SpoolWriter, list[StoredArtifact]]]
) -> Listing:
    """Return a listing with what waits in the spool: each segment as an artifact of its writer."""
    known = {*listing.artifacts, *(writer.writer_id for writer in listing.writers)}
    artifacts = {writer_id: list(stored) for writer_id, stored in listing.artifacts.items()}
    for writer, segments in waiting:
        for segment in segments:
            assert segment.belongs is not None
            # A writer that has written there before belongs there, whatever it calls the place.
            if writer.writer_id in known or is_same_s3(writer, segment.belongs.store):
                artifacts.setdefault(segment.place.writer_id, []).append(segment)
    for stored in artifacts.values():
        stored.sort(key=lambda one: (one.place.first_seq, one.spooled, one.place.last_seq, one.key))
    return replace(listing, artifacts=artifacts)


class SpoolStore:
    """The spool, as a store of what its segments will become. A key is a path and a range."""

    def folders(self, prefix: str) -> list[str]:
        """Return nothing: it has no folders."""
        return []

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield nothing."""
        return iter(())

    def read(self, key: str) -> bytes:
        """Return the sound lines of a segment's range, and all values that are before it.

        Raises:
            GoneError: It is not there any more: delivered.
        """
        path, _, numbers = key.rpartition(":")
        first, _, last = numbers.partition("-")
        try:
            with SegmentReader(Path(path)) as segment:
                return b"".join(
                    # Of earlier events their values: later ones may refer to them.
                    line if seq >= int(first) else line[: _event_start(line)]
                    for seq, line in segment.more()
                    if seq <= int(last)
                )
        except (SegmentError, OSError) as error:
            raise GoneError(f"{path} cannot be read: {error}") from error

    def uri(self, key: str) -> str:
        """Return the path of a segment."""
        return key.rpartition(":")[0]


def _newest_first(writer: SpoolWriter) -> Iterator[Path]:
    """Return a writer's segments in an order in which nothing is missed between two of them.

    A segment gets no more lines once the next one has some. If that was looked at before, this one
    is looked at to its end; if after, it may have gone on meanwhile.
    """
    return reversed(waiting_segments(writer.path))


def _event_start(lines: bytes) -> int:
    """Return where the event begins in its lines: behind its values."""
    return lines.rfind(b"\n", 0, -1) + 1


def _writer(path: Path) -> SpoolWriter:
    info = read_description(path)
    given = info.get("destination")
    destination: dict[str, Any] = given if isinstance(given, dict) else {}
    root, bucket = destination.get("root"), destination.get("bucket")
    uri = ""
    if isinstance(root, str) and root:
        if destination.get("kind") == "folder":
            uri = f"{root.rstrip('/')}/"
        elif destination.get("kind") == "s3" and isinstance(bucket, str) and bucket:
            uri = f"s3://{bucket}/{root.rstrip('/')}/"
    says = destination.get("kind") == "s3" and "endpoint_url" in destination
    experiment, run = info.get("experiment"), info.get("run")
    return SpoolWriter(
        path,
        experiment if isinstance(experiment, str) else "",
        run if isinstance(run, str) else "",
        uri,
        store_of(destination["endpoint_url"], destination.get("region")) if says else "",
    )


def _inside(uri: str, below: str) -> str:
    """Return the rest of an address below another one; empty if it is not below it."""
    if not uri.startswith(below) and uri and not (uri + below).count("s3://"):
        # The same folders by other paths, through links or "..".
        uri, below = (f"{os.path.realpath(one).rstrip('/')}/" for one in (uri, below))
    return uri[len(below) :] if uri.startswith(below) else ""


def _same_place(uri: str, location: Location) -> bool:
    if uri == location.uri:
        return True
    if uri.startswith("s3://") or location.uri.startswith("s3://"):
        return False
    # The same folder by another path, through a link.
    return os.path.realpath(uri) == os.path.realpath(location.uri)
