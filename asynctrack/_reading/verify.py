"""``verify``: is each event there exactly once, and each object as it was written?

It reads the manifests and every object, and names what is missing, doubled, damaged or not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynctrack._backends.s3_read import Access
from asynctrack._errors import NotFoundError
from asynctrack._reading.merging.fetch import AHEAD, Fetched, Fetcher
from asynctrack._reading.merging.merge import open_artifact
from asynctrack._reading.sources.dead_letters import dead_letter_ranges
from asynctrack._reading.sources.listing import Listing, StoredArtifact, list_run
from asynctrack._reading.sources.locate import (
    Found,
    Place,
    Source,
    describe,
    locate_runs,
    resolve_s3_options,
)
from asynctrack._reading.sources.manifests import Problem, WriterManifest
from asynctrack._reading.sources.ranges import Ranges, SeqRange, subtract, sweep, union
from asynctrack._reading.sources.sampled import together
from asynctrack._reading.sources.spool import (
    GivenSpool,
    Spool,
    SpoolWriter,
    is_same_s3,
    this_spool,
    waiting_ranges,
    writers_of,
)
from asynctrack._reading.sources.stores import Store
from asynctrack._reading.sources.wanted import nothing_at
from asynctrack._reading.threads import in_thread
from asynctrack._reading.verify_report import Report, WriterReport


def verify(
    source: Source,
    *,
    root: Place | None = None,
    concurrency: int = AHEAD,
    spool_dir: GivenSpool = True,
    endpoint_url: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    session: Any = None,
    s3_options: Mapping[str, Any] | None = None,
) -> Report:
    """Read everything of a Run, or of all Runs below a place, and say whether it is all there.

    Blocks. What is wrong with the data is in the report; it is never raised.

    Args:
        source: As for ``open_run``; may be the place of several Runs.
        root: As for ``open_run``.
        concurrency: How many objects are fetched at a time.
        spool_dir: As for ``open_run``: where events that have not arrived may be.
        endpoint_url: As for ``open_run``.
        profile: As for ``open_run``.
        region: As for ``open_run``.
        session: As for ``open_run``.
        s3_options: As for ``open_run``.

    Raises:
        NotFoundError: There is no Run.
        OptionError: ``source`` or ``root`` is no place.
        ReadError: A folder or file cannot be read.
        BackendError: AWS said no, or could not be reached in several attempts.
    """
    access = Access(
        endpoint_url, profile, region, session, s3_options=resolve_s3_options(s3_options)
    )
    spool = this_spool(spool_dir)
    found = locate_runs(source, root, access, spool)
    if not found:
        raise nothing_at(describe(source, root))
    return verify_found(found, describe(source, root), spool, concurrency=concurrency)


async def averify(source: Source, **options: Any) -> Report:
    """Verify from async code: ``verify`` in a thread, with its arguments and errors."""
    return await in_thread(lambda: verify(source, **options))


def verify_found(
    found: Sequence[Found],
    place: str,
    spool: Spool,
    *,
    concurrency: int = AHEAD,
    checked: Callable[[StoredArtifact], None] = lambda _: None,
) -> Report:
    """Verify Runs that were found at a place, and call ``checked`` for each object. Blocks."""
    writers: list[WriterReport] = []
    problems: list[Problem] = []
    fetcher = Fetcher(concurrency)
    try:
        for run in found:
            # Before the listing: that shows what is delivered meanwhile.
            leftovers = _leftovers(run, spool)
            listing = list_run(run.locations)
            problems += listing.problems
            writers += _writers(run, listing, leftovers, fetcher, checked)
    finally:
        fetcher.close()
    if not writers and not problems:
        raise NotFoundError(
            f"there is nothing to verify at {place}: nothing was delivered, no manifest is there,"
            " and nothing waits in this machine's spool"
        )
    uris = tuple(location.uri for run in found for location in run.locations)
    return Report(uris, tuple(writers), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Leftovers:
    """What a writer has on this machine."""

    writer: SpoolWriter
    store: Store
    waiting: list[SeqRange]
    dead_letters: list[SeqRange]
    set_aside: list[Path]


def _leftovers(run: Found, spool: Spool) -> list[_Leftovers]:
    return [
        _Leftovers(
            writer,
            location.store,
            waiting_ranges(writer),
            dead_letter_ranges(writer),
            writer.set_aside(),
        )
        for location in run.locations
        for writer in writers_of(spool, location)
    ]


def _writers(
    found: Found,
    listing: Listing,
    leftovers: Sequence[_Leftovers],
    fetcher: Fetcher,
    checked: Callable[[StoredArtifact], None],
) -> list[WriterReport]:
    manifests: dict[str, list[WriterManifest]] = {}
    for manifest in listing.writers:
        manifests.setdefault(manifest.writer_id, []).append(manifest)
    ids = dict.fromkeys([*manifests, *sorted(listing.artifacts), *sorted(listing.missing)])
    here: dict[str, list[_Leftovers]] = {}
    for left in leftovers:
        if left.writer.writer_id in ids or is_same_s3(left.writer, left.store):
            here.setdefault(left.writer.writer_id, []).append(left)
    only_here = (
        writer_id
        for writer_id, lefts in here.items()
        if any(left.waiting or left.dead_letters or left.set_aside for left in lefts)
    )
    ids.update(dict.fromkeys(only_here))
    return [
        _writer(
            found, writer_id, manifests.get(writer_id, []), here.get(writer_id, []), listing,
            fetcher.fetch(listing.artifacts.get(writer_id, ())), checked,
        )
        for writer_id in ids
    ]  # fmt: skip


def _writer(
    found: Found,
    writer_id: str,
    manifests: Sequence[WriterManifest],
    leftovers: Sequence[_Leftovers],
    listing: Listing,
    fetched: Iterable[Fetched],
    checked: Callable[[StoredArtifact], None],
) -> WriterReport:
    artifacts = listing.artifacts.get(writer_id, ())
    pieces: list[SeqRange] = []
    damaged: list[Problem] = []
    verified = 0
    for one in fetched:
        verified += one.artifact.sha256 is not None and one.intact
        pieces += _runs_of_numbers(one, damaged)
        checked(one.artifact)
    pieces.sort(key=lambda piece: (piece.first_seq, piece.last_seq))
    covered, doubled = sweep(pieces)

    manifest = max(manifests, key=lambda one: one.updated_unix_nano, default=None)
    waits = [one for left in leftovers for one in left.waiting]
    buried = [one for left in leftovers for one in left.dead_letters]
    # Dead letters that were sent again since are there.
    refused = subtract(
        union(one for manifest in manifests for one in manifest.refused_ranges), covered
    )
    listed = [receipt for one in manifests for receipt in one.artifacts]
    promised = union(
        [
            *(one for manifest in manifests for one in manifest.ranges),
            *((receipt.first_seq, receipt.last_seq) for receipt in listed),
        ]
    )
    waiting = subtract(union((one.first_seq, one.last_seq) for one in waits), covered)
    dead = subtract(union((one.first_seq, one.last_seq) for one in buried), covered)
    known = (covered, promised, waiting, dead)
    highest = max((ranges[-1][1] for ranges in known if ranges), default=0)
    if manifest is not None:
        highest = max(highest, manifest.accepted)
    absent = [(1, highest)] if highest else []
    for elsewhere in (covered, refused, waiting, dead):
        absent = subtract(absent, elsewhere)
    alive = any(left.writer.alive for left in leftovers)
    if (manifest is None and not alive) or (manifest is not None and manifest.state == "closed"):
        missing, undelivered = absent, []
    else:  # what its manifest does not list may be on its way
        undelivered = subtract(absent, promised)
        missing = subtract(absent, undelivered)
    expected = [
        *(SeqRange(a.place.first_seq, a.place.last_seq, (a.uri,)) for a in artifacts),
        *(
            SeqRange(receipt.first_seq, receipt.last_seq, (uri,))
            for uri, receipt in listing.missing.get(writer_id, ())
        ),
    ]
    return WriterReport(
        experiment=found.locations[0].experiment,
        run=found.locations[0].run,
        writer_id=writer_id,
        state="unknown" if manifest is None else manifest.state,
        accepted=None if manifest is None else manifest.accepted,
        events=sum(last - first + 1 for first, last in covered),
        objects=len(artifacts),
        bytes=sum(artifact.size for artifact in artifacts),
        verified=verified,
        unlisted=tuple(artifact.uri for artifact in artifacts if artifact.sha256 is None),
        missing=tuple(_with_objects(missing, expected)),
        doubled=tuple(doubled),
        damaged=tuple(damaged),
        undelivered=tuple(SeqRange(first, last) for first, last in undelivered),
        waiting=tuple(_with_objects(waiting, waits)),
        dead_letters=tuple(_with_objects(dead, buried)),
        set_aside=tuple(str(path) for left in leftovers for path in left.set_aside),
        refused=tuple(SeqRange(*one) for one in subtract(refused, dead)),
        dropped=sum(sum(manifest.dropped.values()) for manifest in manifests),
        sampling=together(manifest.sampling for manifest in manifests),
    )


def _runs_of_numbers(fetched: Fetched, damaged: list[Problem]) -> list[SeqRange]:
    """Return the sequence numbers in an object, each unbroken run of them as one range."""
    runs: list[SeqRange] = []
    objects = (fetched.artifact.uri,)
    first = last = 0
    for event in open_artifact(fetched, damaged.append, set_aside=True, resolve=False):
        seq = event.seq
        if seq != last + 1 or not first:
            if first:
                runs.append(SeqRange(first, last, objects))
            first = seq
        last = seq
    if first:
        runs.append(SeqRange(first, last, objects))
    return runs


def _with_objects(ranges: Ranges, objects: Sequence[SeqRange]) -> Iterable[SeqRange]:
    for first, last in ranges:
        names = [
            name
            for one in objects
            if one.first_seq <= last and one.last_seq >= first
            for name in one.objects
        ]
        yield SeqRange(first, last, tuple(dict.fromkeys(names)))
