"""Manifests read back: what a Run's writers say of themselves. Nothing in them is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from asynctrack._backends.protocol import GoneError
from asynctrack._common import payload
from asynctrack._common.artifact import Receipt
from asynctrack._format import LAYOUT_VERSION, parse_artifact_name
from asynctrack._reading.sources.sampled import Sampled, sampled_of, together
from asynctrack._reading.sources.stores import Location

_FOLDER: Final = "_manifest/"
_MAX_COUNT: Final = 2**63


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read, and was set aside.

    Attributes:
        object: The address of the object.
        reason: What is wrong, in words.
        line: Number of the first line concerned, from 1; None where it is the whole object.
        lines: How many lines are concerned; None if unknown.
    """

    object: str
    reason: str
    line: int | None = None
    lines: int | None = None

    def __str__(self) -> str:
        where = "" if self.line is None else f", line {self.line}"
        more = f" (and {self.lines - 1} more lines)" if self.lines and self.lines > 1 else ""
        return f"{self.object}{where}: {self.reason}{more}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric over all its points.

    Attributes:
        count: How many points there are.
        sum: Their sum.
        min: The smallest.
        max: The largest.
        last: The last one written.
    """

    count: int
    sum: float
    min: float
    max: float
    last: float

    @property
    def mean(self) -> float:
        """The mean of its points."""
        return self.sum / self.count if self.count else math.nan


@dataclass(frozen=True, slots=True)
class WriterManifest:
    """What one writer says of itself. Numbers are its own: ``verify`` compares them.

    Attributes:
        writer_id: Who.
        uri: The manifest's address.
        state: ``open``, ``closed``, or ``died``: somebody has taken over what it left.
        created_unix_nano: When the writer began.
        updated_unix_nano: When it wrote this.
        accepted: Events it accepted.
        delivered: Of these, those the backend acknowledged.
        pending: Of these, those in memory at that time.
        dead_lettered: Of these, those the backend refused for good.
        dropped: Events it never accepted, by reason.
        sampling: How it sampled; None where it kept all.
        ranges: First and last sequence numbers of what was delivered.
        refused_ranges: The same of what was refused.
        artifacts: Every artifact with its checksum, those of all pages.
        parameters: Its parameters, whole.
        metrics: Its metrics; of one that died with what was replayed.
        metrics_seq: Number of the last event that its own manifest's metrics count; None if it does
            not say.
        replay_counted: What was replayed, and is in ``metrics``.
    """

    writer_id: str
    uri: str
    state: str
    created_unix_nano: int
    updated_unix_nano: int
    accepted: int
    delivered: int
    pending: int
    dead_lettered: int
    dropped: Mapping[str, int]
    ranges: tuple[tuple[int, int], ...]
    refused_ranges: tuple[tuple[int, int], ...]
    artifacts: tuple[Receipt, ...] = field(repr=False)
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    metrics_seq: int | None = None
    replay_counted: tuple[Receipt, ...] = field(default=(), repr=False)
    sampling: Sampled | None = None


@dataclass(frozen=True, slots=True)
class RunManifest:
    """What the writers of a Run say they delivered, together.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        writers: Each writer's manifest, by the time it began.
    """

    experiment: str
    run: str
    writers: tuple[WriterManifest, ...]

    @property
    def closed(self) -> bool:
        """Whether all writers have ended as they should."""
        return bool(self.writers) and all(one.state == "closed" for one in self.writers)

    @property
    def accepted(self) -> int:
        """Events accepted by all writers."""
        return sum(writer.accepted for writer in self.writers)

    @property
    def delivered(self) -> int:
        """Events delivered by all writers."""
        return sum(writer.delivered for writer in self.writers)

    @property
    def dropped(self) -> dict[str, int]:
        """Events dropped by all writers, by reason."""
        total: dict[str, int] = {}
        for writer in self.writers:
            for reason, count in writer.dropped.items():
                total[reason] = total.get(reason, 0) + count
        return total

    @property
    def sampling(self) -> Sampled | None:
        """How its traces were sampled; None where all were kept."""
        return together(writer.sampling for writer in self.writers)


Report = Callable[[Problem], None]
"""Called with each thing that is set aside."""


def read_manifests(location: Location, problems: list[Problem]) -> list[WriterManifest]:
    """Read all manifests of a place: one for each writer, with its pages. Blocks.

    Args:
        location: The Run's folder.
        problems: Gets those that cannot be read.

    Raises:
        ReadError: A folder cannot be read.
        BackendError: S3 said no.
    """
    store = location.store
    folder = location.prefix + _FOLDER
    mains: dict[str, dict[str, Any]] = {}
    pages: dict[str, list[Receipt]] = {}
    replays: dict[str, list[Any]] = {}
    read: set[str] = set()
    for found in sorted(store.objects(folder), key=lambda one: one.key):
        name = found.key[len(folder) :]
        if not name.endswith(".json") or name.startswith(".") or "/" in name:
            continue
        writer_id, _, page = name.removesuffix(".json").partition(".")
        uri = store.uri(found.key)
        try:
            content = payload.decode(store.read(found.key))
            if type(content) is not dict or content.get("v") != LAYOUT_VERSION:
                raise ValueError(f"not a manifest of version {LAYOUT_VERSION}")
            if content.get("writer_id") != writer_id:
                raise ValueError("the manifest of another writer than its key says")
        except GoneError:
            continue
        except ValueError as error:
            reason = f"cannot be read ({error}): its artifacts cannot be compared with checksums"
            problems.append(Problem(uri, reason))
            continue
        receipts, bad = _receipts(content.get("artifacts"), writer_id)
        if bad:
            problems.append(Problem(uri, f"lists {bad} artifacts in a way that cannot be read"))
        pages.setdefault(writer_id, []).extend(receipts)
        read.add(f"{_FOLDER}{name}")
        if not page:
            mains[writer_id] = content
        elif content.get("died") is True:
            replays.setdefault(writer_id, []).extend(_list(content.get("artifacts")))
    writers = []
    for writer_id, content in mains.items():
        for page in _list(content.get("pages")):
            if isinstance(page, str) and page not in read:
                uri = store.uri(location.prefix + page)
                problems.append(Problem(uri, "a page of a manifest that cannot be read"))
        # A page may be listed twice: stored on its own, and still in the manifest.
        receipts = list({receipt.name: receipt for receipt in pages[writer_id]}.values())
        uri = store.uri(f"{folder}{writer_id}.json")
        writers.append(_writer(writer_id, uri, content, receipts, replays.get(writer_id)))
    # Pages list artifacts even if the writer's own manifest is lost, or it never stored one.
    for writer_id in sorted(pages.keys() - mains.keys()):
        uri = store.uri(f"{folder}{writer_id}.json")
        content = {"state": "open", "metrics_seq": 0}
        receipts = list({receipt.name: receipt for receipt in pages[writer_id]}.values())
        writers.append(_writer(writer_id, uri, content, receipts, replays.get(writer_id)))
    return writers


def without_manifest(writer_id: str, location: Location) -> WriterManifest:
    """Return what is known of a writer that died before it stored a manifest."""
    uri = location.store.uri(f"{location.prefix}{_FOLDER}{writer_id}.json")
    return _writer(writer_id, uri, {"metrics_seq": 0}, (), [])


def _writer(
    writer_id: str,
    uri: str,
    content: Mapping[str, Any],
    receipts: Iterable[Receipt],
    replayed: list[Any] | None,
) -> WriterManifest:
    closed, died = content.get("state") == "closed", replayed is not None
    metrics_seq = content.get("metrics_seq")
    metrics = _metrics(content.get("metrics"))
    counted: tuple[Receipt, ...] = ()
    if not closed and replayed is not None and type(metrics_seq) is int:
        counted = _add_replayed(metrics, metrics_seq, replayed, writer_id)
    return WriterManifest(
        writer_id=writer_id,
        uri=uri,
        state="closed" if closed else "died" if died else "open",
        created_unix_nano=_count(content.get("created_unix_nano")),
        updated_unix_nano=_count(content.get("updated_unix_nano")),
        accepted=_count(content.get("accepted")),
        delivered=_count(content.get("delivered")),
        pending=_count(content.get("pending")),
        dead_lettered=_count(content.get("dead_lettered")),
        dropped={key: _count(value) for key, value in _dict(content.get("dropped")).items()},
        ranges=_ranges(content.get("ranges")),
        refused_ranges=_ranges(content.get("refused_ranges")),
        artifacts=tuple(sorted(receipts, key=lambda one: (one.first_seq, one.name))),
        parameters=_dict(content.get("parameters")),
        metrics=metrics,
        metrics_seq=metrics_seq if type(metrics_seq) is int else None,
        replay_counted=counted,
        sampling=sampled_of(content.get("sampling")),
    )


def _add_replayed(
    metrics: dict[str, Metric], metrics_seq: int, replayed: list[Any], writer_id: str
) -> tuple[Receipt, ...]:
    """Add what a replay delivered to the metrics of its writer, as a point for each artifact.

    An artifact of which a part was counted before is left out: nobody knows how much of it.

    Returns:
        What was added.
    """
    added: dict[str, Receipt] = {}
    for value in replayed:
        points = _dict(value).get("metrics")
        receipts, _ = _receipts([value], writer_id)
        if type(points) is not dict or not receipts:
            continue
        (receipt,) = receipts
        if receipt.first_seq <= metrics_seq or receipt.name in added:
            continue
        added[receipt.name] = receipt
        numbers = [(name, one) for name, one in points.items() if type(one) in (int, float)]
        metrics.update(with_points(metrics, numbers))
    return tuple(added.values())


def with_points(
    metrics: Mapping[str, Metric], points: Iterable[tuple[str, float]]
) -> dict[str, Metric]:
    """Return metrics with one point more of some."""
    more = dict(metrics)
    for name, value in points:
        point = Metric(1, value, value, value, value)
        more[name] = _together(more[name], point) if name in more else point
    return more


def _together(one: Metric, later: Metric) -> Metric:
    return Metric(
        count=one.count + later.count,
        sum=one.sum + later.sum,
        min=min(one.min, later.min),
        max=max(one.max, later.max),
        last=later.last,
    )


def merge_parameters(writers: Iterable[WriterManifest]) -> dict[str, Any]:
    """Return the parameters of all writers; for one name, the writer that began last counts."""
    merged: dict[str, Any] = {}
    for writer in writers:
        merged.update(as_in_the_run(writer.parameters))
    return merged


def as_in_the_run(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with numbers that JSON lacks as text, as the Run has them: NaN, infinity,
    integers that are too long."""
    return {
        name: str(value["value"])
        if isinstance(value, dict)
        and value.keys() == {"$type", "value"}
        and value["$type"] in ("float", "int")
        else value
        for name, value in parameters.items()
    }


def merge_metrics(writers: Iterable[WriterManifest]) -> dict[str, Metric]:
    """Return the metrics over the points of all writers."""
    merged: dict[str, Metric] = {}
    for writer in sorted(writers, key=lambda writer: writer.updated_unix_nano):
        for name, metric in writer.metrics.items():
            before = merged.get(name)
            merged[name] = metric if before is None else _together(before, metric)
    return merged


def _receipts(values: Any, writer_id: str) -> tuple[list[Receipt], int]:
    """Return what a manifest lists, and how many entries cannot be read."""
    receipts, bad = [], 0
    for value in _list(values):
        name, sha256 = _dict(value).get("name"), _dict(value).get("sha256")
        place = parse_artifact_name(name) if isinstance(name, str) else None
        if place is None or place.writer_id != writer_id or not isinstance(sha256, str):
            bad += 1
            continue
        assert isinstance(name, str)
        size, raw = _count(value.get("bytes")), _count(value.get("raw_bytes"))
        receipts.append(Receipt(name, place.first_seq, place.last_seq, size, raw, sha256))
    return receipts, bad


def _metrics(values: Any) -> dict[str, Metric]:
    metrics = {}
    for name, value in _dict(values).items():
        given = [_dict(value).get(field) for field in ("count", "sum", "min", "max", "last")]
        numbers = [number for number in given if isinstance(number, (int, float))]
        if len(numbers) == len(given):
            count, total, low, high, last = numbers
            metrics[name] = Metric(int(count), total, low, high, last)
    return metrics


def _ranges(values: Any) -> tuple[tuple[int, int], ...]:
    return tuple(
        (value[0], value[1])
        for value in _list(values)
        if type(value) is list and len(value) == 2 and all(_count(item) == item for item in value)
    )


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < _MAX_COUNT else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _list(value: Any) -> list[Any]:
    return value if type(value) is list else []
