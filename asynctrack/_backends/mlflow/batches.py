"""Cuts what goes to a run of MLflow into requests that it takes: decisions only.

The figures are those of ``mlflow.utils.validation``, the same from MLflow 2.13 to 3.17.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._common.artifact import MetricPoint

MAX_METRICS: Final = 1_000
MAX_PARAMS: Final = 100
MAX_TAGS: Final = 100
MAX_ENTRIES: Final = 1_000
"""Most of each kind, and of all together, in one request."""
MAX_BYTES: Final = 1_000_000
"""Most bytes of a request's JSON, in which a character may take six or twelve."""
_ENVELOPE: Final = 1_000
"""Bytes of a request besides its entries, with room to spare."""

KINDS: Final = {"params": MAX_PARAMS, "tags": MAX_TAGS, "metrics": MAX_METRICS}


@dataclass(frozen=True, slots=True)
class LogBatch:
    """One request.

    Attributes:
        params: Keys and values.
        tags: The same.
        metrics: Points, as MLflow's JSON has them.
    """

    params: tuple[Mapping[str, Any], ...] = ()
    tags: tuple[Mapping[str, Any], ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()

    @property
    def entries(self) -> int:
        """How many it has of all kinds."""
        return len(self.params) + len(self.tags) + len(self.metrics)

    def halves(self) -> tuple[LogBatch, LogBatch]:
        """Return it as two, each with a half of the entries."""
        every = [
            *(("params", one) for one in self.params),
            *(("tags", one) for one in self.tags),
            *(("metrics", one) for one in self.metrics),
        ]
        middle = len(every) // 2
        return _batch(every[:middle]), _batch(every[middle:])


def cut(
    params: Mapping[str, str],
    tags: Mapping[str, str],
    points: Sequence[MetricPoint] = (),
) -> Iterator[LogBatch]:
    """Yield requests that together say all of this, in this order.

    Args:
        params: Keys and values of parameters.
        tags: Keys and values of tags.
        points: Points of metrics.
    """
    every = [
        *(("params", {"key": key, "value": value}) for key, value in params.items()),
        *(("tags", {"key": key, "value": value}) for key, value in tags.items()),
        *(("metrics", metric_entry(point)) for point in points),
    ]
    taken: list[tuple[str, Mapping[str, Any]]] = []
    counts = dict.fromkeys(KINDS, 0)
    size = _ENVELOPE
    for kind, entry in every:
        more = len(json.dumps(entry)) + 2
        full = counts[kind] >= KINDS[kind] or len(taken) >= MAX_ENTRIES or size + more > MAX_BYTES
        if taken and full:
            yield _batch(taken)
            taken, counts, size = [], dict.fromkeys(KINDS, 0), _ENVELOPE
        taken.append((kind, entry))
        counts[kind] += 1
        size += more
    if taken:
        yield _batch(taken)


def metric_entry(point: MetricPoint) -> dict[str, Any]:
    """Return a point as MLflow's JSON has it: its times are in milliseconds, and what is not
    finite is a word."""
    value = point.value
    if value != value:
        stored: float | str = "NaN"
    elif value in (float("inf"), float("-inf")):
        stored = "Infinity" if value > 0 else "-Infinity"
    else:
        stored = value
    return {
        "key": point.name,
        "value": stored,
        "timestamp": max(0, point.time_unix_nano // 1_000_000),
        "step": point.step,
    }


def _batch(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> LogBatch:
    found: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
    for kind, entry in entries:
        found[kind].append(entry)
    return LogBatch(**{kind: tuple(some) for kind, some in found.items()})
