"""A Run's manifests and artifacts: what is there, and what its writers say should be.

It reads the manifests first and lists the artifacts then. A writer stores an artifact before its
manifest names it, so what a manifest names and the listing lacks is missing, not late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from asynctrack._common.artifact import Receipt
from asynctrack._errors import PausingError
from asynctrack._format import ArtifactName, compact_prefix, parse_artifact_name
from asynctrack._reading.sources.compacted import (
    Compacted,
    CompactStore,
    Twin,
    read_compacted,
    twins_of,
)
from asynctrack._reading.sources.manifests import Problem, WriterManifest, read_manifests
from asynctrack._reading.sources.stores import Location, Store, run_at


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact that is there.

    Attributes:
        store: Where.
        key: Its key in the store.
        size: Its size, in bytes.
        place: What its key says.
        sha256: Its checksum in hex, where a manifest lists it.
        belongs: For lines in this machine's spool, the place they will be delivered to.
    """

    store: Store
    key: str
    size: int
    place: ArtifactName
    sha256: str | None
    belongs: Location | None = None

    @property
    def spooled(self) -> bool:
        """Whether it is not an artifact yet, but lines in this machine's spool."""
        return self.belongs is not None

    @property
    def uri(self) -> str:
        """Its full address."""
        return self.store.uri(self.key)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is there of a Run.

    Attributes:
        writers: The manifests, by the time their writers began.
        artifacts: The artifacts of each writer, by sequence number; also of writers without a
            manifest.
        missing: Artifacts that a manifest lists and that are not there, by writer: the address,
            and what the manifest says.
        problems: Manifests that cannot be read, and objects with a wrong name.
    """

    writers: tuple[WriterManifest, ...]
    artifacts: Mapping[str, Sequence[StoredArtifact]]
    missing: Mapping[str, Sequence[tuple[str, Receipt]]]
    problems: tuple[Problem, ...]


def find_delivered(waiting: StoredArtifact) -> StoredArtifact | None:
    """Return the artifact that lines of the spool became; None while there is none. Blocks."""
    location, place = waiting.belongs, waiting.place
    assert location is not None
    folder = f"{location.prefix}dt={place.day}/"
    for found in location.store.objects(folder):
        there = parse_artifact_name(found.key[len(location.prefix) :])
        if (
            there is not None
            and there.writer_id == place.writer_id
            and there.first_seq <= place.first_seq
            and there.last_seq >= place.last_seq
        ):
            return StoredArtifact(location.store, found.key, found.size, there, None)
    return None


def find_compacted(gone: StoredArtifact) -> StoredArtifact | None:
    """Return what replaces a segment that was deleted since it was listed, or None. Blocks."""
    location = run_at(gone.store, gone.key)
    if location is None or isinstance(gone.store, CompactStore):
        return None
    name = gone.key[len(location.prefix) :]
    twin = twins_of(location, read_compacted(location, []), {}).get(name)
    return None if twin is None else _stored(twin)


def _stored(twin: Twin) -> StoredArtifact:
    return StoredArtifact(twin.store, twin.key, twin.size, twin.place, twin.sha256)


def list_run(
    locations: Iterable[Location],
    manifests: Mapping[Location, list[WriterManifest]] | None = None,
) -> Listing:
    """Read the manifests of a Run and list its artifacts. Blocks.

    Args:
        locations: The places it was tracked into.
        manifests: Its manifests at each place, where they have been read already.

    Raises:
        ReadError: A folder cannot be read.
        BackendError: S3 said no.
    """
    problems: list[Problem] = []
    writers: list[WriterManifest] = []
    artifacts: dict[str, list[StoredArtifact]] = {}
    missing: dict[str, list[tuple[str, Receipt]]] = {}
    for location in locations:
        here = read_manifests(location, problems) if manifests is None else manifests[location]
        listed = {receipt.name: receipt for writer in here for receipt in writer.artifacts}
        seen: dict[str, ArtifactName] = {}
        for found in location.store.objects(location.prefix):
            name = found.key[len(location.prefix) :]
            place = parse_artifact_name(name)
            if place is None:
                if name.startswith("dt=") and not name.rpartition("/")[2].startswith("."):
                    reason = "not the key of an artifact; left alone"
                    problems.append(Problem(location.store.uri(found.key), reason))
                continue
            seen[name] = place
            receipt = listed.pop(name, None)
            sha256 = None if receipt is None else receipt.sha256
            artifacts.setdefault(place.writer_id, []).append(
                StoredArtifact(location.store, found.key, found.size, place, sha256)
            )
        # After the segments: `compact` stores its manifest before it deletes them.
        try:
            compacted = read_compacted(location, problems)
        except PausingError as error:  # a reader may see the Run's folder and not the one beside it
            compacted = Compacted((), ())
            if listed:
                uri = location.store.uri(compact_prefix(location.prefix))
                reason = f"what is missing may be compacted, and this cannot be looked at: {error}"
                problems.append(Problem(uri, reason))
        twins = twins_of(location, compacted, seen)
        for name, twin in twins.items():
            listed.pop(name, None)
            if twin.place.first_seq <= twin.place.last_seq:  # else its events are in others
                artifacts.setdefault(twin.place.writer_id, []).append(_stored(twin))
        for name, receipt in listed.items():
            place = parse_artifact_name(name)
            assert place is not None  # only such receipts are kept
            uri = location.store.uri(location.prefix + name)
            missing.setdefault(place.writer_id, []).append((uri, receipt))
        writers += here
    for stored in artifacts.values():
        stored.sort(key=lambda one: (one.place.first_seq, one.place.last_seq, one.key))
    writers.sort(key=lambda writer: (writer.created_unix_nano, writer.writer_id))
    return Listing(tuple(writers), artifacts, missing, tuple(problems))
