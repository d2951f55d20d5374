"""A Run at a glance, without its events: from its manifests, else from its listing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from asynctrack._common.artifact import Receipt
from asynctrack._common.markup import facts_html
from asynctrack._errors import PausingError
from asynctrack._format import parse_artifact_name
from asynctrack._reading.merging.recount import recount
from asynctrack._reading.sources.compacted import read_compacted
from asynctrack._reading.sources.dead_letters import dead_letters_of, refused_events
from asynctrack._reading.sources.listing import StoredArtifact, list_run
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import (
    Metric,
    Problem,
    WriterManifest,
    merge_metrics,
    merge_parameters,
    read_manifests,
    with_points,
    without_manifest,
)
from asynctrack._reading.sources.ranges import union
from asynctrack._reading.sources.sampled import Sampled, together
from asynctrack._reading.sources.spool import (
    Spool,
    is_same_s3,
    waiting_artifacts,
    writers_of,
)
from asynctrack._reading.sources.stores import Location
from asynctrack._reading.trees.prices import Prices
from asynctrack._reading.trees.span import TOKEN_PARTS

PARAMETERS: Final = 20
"""Names of parameters that a notebook shows."""
_MODEL: Final = re.compile(r"gen_ai\.request\.model(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class RunOverview:
    """A Run at a glance. Counts are what its writers said at their last update; of a writer that
    died, what it did after that is counted from its events.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        uri: Its address.
        state: ``closed``; ``writing``, by a writer of this machine; ``died``: a writer ended
            without closing, by this machine's spool or by who took over what it left; ``open``:
            being written elsewhere, or its writer died there; ``unknown``: without a manifest.
        based_on: ``manifests``, or ``listing`` where there is none: sizes and events only.
        writers: How many there are.
        events: Events delivered.
        spooled: Events that wait in this machine's spool.
        refused: Events that the backend refused for good, by manifests and this machine's dead
            letters.
        dropped: Events that were never accepted.
        objects: How many artifacts there are, and Parquet files that they were compacted into.
        bytes: Their size, in bytes.
        traces: Traces that ended; None if unknown, like the counts of calls and tokens: without a
            manifest, or where too much would have to be read.
        failed: Traces that ended with an error.
        model_calls: Calls of models that ended.
        input_tokens: What models read.
        output_tokens: What models wrote.
        cache_read_tokens: Of the input, what came from the provider's cache.
        cache_write_tokens: Of the input, what went into it.
        reasoning_tokens: Of the output, what was reasoning.
        audio_input_tokens: Of the input, what was audio.
        audio_output_tokens: Of the output, what was audio.
        cost: In USD, by the prices given, where one model was used and has a price.
        start_unix_nano: When its first writer began.
        updated_unix_nano: When one of its writers last updated its manifest.
        parameters: Its parameters.
        problems: Manifests that cannot be read; the counts lack them.
        sampling: How its traces were sampled; None where all were kept. The counts of traces, calls
            and tokens are of those that are kept.
    """

    experiment: str
    run: str
    uri: str
    state: str
    based_on: str
    writers: int
    events: int
    spooled: int
    refused: int
    dropped: int
    objects: int
    bytes: int
    traces: int | None
    failed: int | None
    model_calls: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    cost: float | None
    start_unix_nano: int | None
    updated_unix_nano: int | None
    parameters: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()
    sampling: Sampled | None = None


def overview(found: Found, spool: Spool = (), prices: Prices | None = None) -> RunOverview:
    """Return a Run at a glance. Blocks: it reads a listing and a few small objects.

    Args:
        found: Where it is.
        spool: The spool; empty looks at what is delivered only.
        prices: What models cost.

    Raises:
        ReadError: A folder cannot be read.
        BackendError: S3 said no.
    """
    first = found.locations[0]
    left = _left(found, spool)
    problems: list[Problem] = []
    manifests = {location: read_manifests(location, problems) for location in found.locations}
    writers = [writer for some in manifests.values() for writer in some]
    known = {writer.writer_id for writer in writers}
    writers += [one for one in left.died.values() if one.writer_id not in known]
    writers.sort(key=lambda writer: (writer.created_unix_nano, writer.writer_id))
    died = [
        writer
        for writer in writers
        if writer.state == "died" or (writer.state == "open" and writer.writer_id in left.died)
    ]
    closed = bool(writers) and all(writer.state == "closed" for writer in writers)
    receipts = [receipt for writer in writers for receipt in writer.artifacts]
    # All is listed by those that closed. What others stored last is in no manifest.
    artifacts = {} if closed else dict(list_run(found.locations, manifests).artifacts)
    unlisted = [one for some in artifacts.values() for one in some if one.sha256 is None]
    sizes = _sizes(found.locations, receipts, unlisted)
    metrics: dict[str, Metric] | None = merge_metrics(writers) if writers else None
    if metrics is not None and died:
        for one in left.waiting:
            artifacts[one.place.writer_id] = [*artifacts.get(one.place.writer_id, ()), one]
        more = recount(died, {name: _in_order(some) for name, some in artifacts.items()})
        metrics = None if more is None else with_points(metrics, more.points())
    parameters = {**found.parameters, **merge_parameters(writers)}
    read = _sum(metrics, "gen_ai.usage.input_tokens")
    written = _sum(metrics, "gen_ai.usage.output_tokens")
    parts = {name: _sum(metrics, metric) for name, metric in TOKEN_PARTS.items()}
    return RunOverview(
        experiment=first.experiment,
        run=first.run,
        uri=first.uri,
        state=_state(writers, died, alive=left.alive),
        based_on="manifests" if writers else "listing",
        writers=len({*(writer.writer_id for writer in writers), *artifacts}),
        events=_events(receipts, unlisted),
        spooled=sum(one.place.last_seq - one.place.first_seq + 1 for one in left.waiting),
        refused=refused_events(writers, dead_letters_of(spool, found.locations)),
        dropped=sum(sum(writer.dropped.values()) for writer in writers),
        objects=len(sizes),
        bytes=sum(sizes),
        traces=_sum(metrics, "asynctrack.trace.count"),
        failed=_sum(metrics, "asynctrack.trace.errors"),
        model_calls=_sum(metrics, "gen_ai.client.operation.count"),
        input_tokens=read,
        output_tokens=written,
        **parts,
        cost=_cost(parameters, read, written, parts, prices),
        start_unix_nano=min(
            (one.created_unix_nano for one in writers if one.created_unix_nano), default=None
        ),
        updated_unix_nano=max((one.updated_unix_nano for one in writers), default=None) or None,
        parameters=parameters,
        problems=tuple(problems),
        sampling=together(writer.sampling for writer in writers),
    )


def overview_html(seen: RunOverview) -> str:
    """Return a Run at a glance as HTML for a notebook."""

    facts = [
        ("state", seen.state),
        ("traces", _said(seen.traces)),
        ("failed", _said(seen.failed)),
        ("sampled", "" if seen.sampling is None else str(seen.sampling)),
        ("model calls", _said(seen.model_calls)),
        ("tokens", f"{_said(seen.input_tokens)} in, {_said(seen.output_tokens)} out"),
        ("cost", "" if seen.cost is None else f"${seen.cost:,.2f}"),
        ("events", f"{seen.events:,} in {seen.objects:,} objects of {seen.bytes:,} bytes"),
        ("waiting on this machine", f"{seen.spooled:,} events" if seen.spooled else ""),
        ("refused for good", f"{seen.refused:,} events" if seen.refused else ""),
        ("dropped", f"{seen.dropped:,} events" if seen.dropped else ""),
        ("writers", f"{seen.writers:,}"),
        ("began", _when(seen.start_unix_nano)),
        ("updated", _when(seen.updated_unix_nano)),
        ("place", seen.uri),
        ("parameters", ", ".join(sorted(seen.parameters)[:PARAMETERS])),
        ("manifests that cannot be read", f"{len(seen.problems):,}" if seen.problems else ""),
    ]
    return facts_html(
        f"Run {seen.experiment}/{seen.run}",
        [(name, value) for name, value in facts if value],
        "From its manifests, as of their writers' last update; run.summary() reads all events.",
    )


COLUMNS: Final = ("run", "state", "traces", "failed", "tokens in", "tokens out", "events", "began")


def overview_row(seen: RunOverview) -> list[str]:
    """Return a Run at a glance as a row of ``COLUMNS``."""
    counts = (seen.traces, seen.failed, seen.input_tokens, seen.output_tokens, seen.events)
    return [seen.run, seen.state, *map(_said, counts), _when(seen.start_unix_nano)]


def _said(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _when(unix_nano: int | None) -> str:
    if unix_nano is None:
        return ""
    at = datetime.fromtimestamp(unix_nano // 10**9, tz=timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class _Left:
    """What is in this machine's spool of a Run.

    Attributes:
        waiting: Its segments, each in place of the artifact it will become.
        alive: Whether one of their writers lives, or is being replayed.
        died: The others, as writers without a manifest.
    """

    waiting: list[StoredArtifact]
    alive: bool
    died: dict[str, WriterManifest]


def _left(found: Found, spool: Spool) -> _Left:
    waiting: list[StoredArtifact] = []
    died: dict[str, WriterManifest] = {}
    alive = False
    for location in found.locations:
        for writer in writers_of(spool, location):
            if is_same_s3(writer, location.store):
                # Asked before the manifests are read: it may close meanwhile.
                if writer.alive:
                    alive = True
                else:
                    died[writer.writer_id] = without_manifest(writer.writer_id, location)
                waiting += waiting_artifacts(writer, location, [])
    return _Left(waiting, alive, died)


def _state(writers: list[WriterManifest], died: list[WriterManifest], *, alive: bool) -> str:
    if alive:
        return "writing"
    if not writers:
        return "unknown"
    rest = len(writers) - len(died)
    if sum(writer.state == "closed" for writer in writers) < rest:
        return "open"
    return "died" if died else "closed"


def _events(receipts: Iterable[Receipt], unlisted: Iterable[StoredArtifact]) -> int:
    """Return how many events are stored; each once."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for receipt in receipts:
        place = parse_artifact_name(receipt.name)
        assert place is not None  # only such receipts are kept
        ranges.setdefault(place.writer_id, []).append((receipt.first_seq, receipt.last_seq))
    for one in unlisted:
        place = one.place
        ranges.setdefault(place.writer_id, []).append((place.first_seq, place.last_seq))
    return sum(last - first + 1 for some in ranges.values() for first, last in union(some))


def _in_order(artifacts: Iterable[StoredArtifact]) -> list[StoredArtifact]:
    return sorted(
        artifacts, key=lambda one: (one.place.first_seq, one.spooled, one.place.last_seq, one.key)
    )


def _sizes(
    locations: Iterable[Location], receipts: list[Receipt], unlisted: list[StoredArtifact]
) -> list[int]:
    """Return the sizes of what is stored: from the manifests, unless it was compacted."""
    compacted: list[int] = []
    for location in locations:
        try:
            files = read_compacted(location, []).files
        except PausingError:  # a reader may see the Run's folder and not the one beside it
            continue
        compacted += [file.size for file in files]
    if not compacted:
        return [*(receipt.bytes for receipt in receipts), *(one.size for one in unlisted)]
    # Some segments may be deleted: the listing has what is there.
    segments = [
        one.size
        for location in locations
        for one in location.store.objects(location.prefix)
        if parse_artifact_name(one.key[len(location.prefix) :]) is not None
    ]
    return segments + compacted


def _sum(metrics: Mapping[str, Metric] | None, name: str) -> int | None:
    """Return a metric's sum; 0 if it is not there, None if nothing is known of any."""
    if metrics is None:
        return None
    metric = metrics.get(name)
    return 0 if metric is None else round(metric.sum)


def _cost(
    parameters: Mapping[str, Any],
    read: int | None,
    written: int | None,
    parts: Mapping[str, int | None],
    prices: Prices | None,
) -> float | None:
    models = {value for name, value in parameters.items() if _MODEL.fullmatch(name)}
    model = models.pop() if len(models) == 1 else None
    rates = prices.get(model) if prices is not None and isinstance(model, str) else None
    if rates is None or read is None or written is None:
        return None  # with several models, the tokens of each are unknown
    return rates.cost(
        read,
        written,
        cache_read=parts["cache_read_tokens"] or 0,
        cache_write=parts["cache_write_tokens"] or 0,
        audio_read=parts["audio_input_tokens"] or 0,
        audio_written=parts["audio_output_tokens"] or 0,
    )
