"""Two Runs side by side, by component: what changed beyond noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asynctrack._reading.answers.components import CALLS, KINDS
from asynctrack._reading.answers.noise import Estimate, difference, mean, quantile, rate
from asynctrack._reading.index.asking import Asks

TRACE: Final = "trace"
"""The kind of all traces together; the others are those of components."""
MEASURES: Final = (
    "failure_rate", "p50", "p95", "first_p50", "first_p95", "tokens_per_call", "cost_per_call"
)  # fmt: skip
"""What is compared: shares, seconds, tokens, USD. Of each, less is better."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The calls of a component in one Run.

    Attributes:
        kind: As of ``Component``; ``trace``: all traces.
        name: Its name.
        calls: How many there are.
        failed: Calls that ended with an error.
        measured: What was measured, by ``MEASURES``; without those that no call has.
    """

    kind: str
    name: str
    calls: int
    failed: int
    measured: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Change:
    """A component in both Runs.

    Attributes:
        kind: Its kind.
        name: Its name.
        first: In the first Run; None where it has none.
        second: In the second one.
        differences: By how much the second is more, by ``MEASURES``; without those that one of
            the Runs lacks.
    """

    kind: str
    name: str
    first: Sample | None
    second: Sample | None
    differences: dict[str, Estimate]

    @property
    def beyond_noise(self) -> bool:
        """Whether any of them is more than noise."""
        return any(one.beyond_noise for one in self.differences.values())


def samples(tables: Asks) -> tuple[Sample, ...]:
    """Return the calls of each component, and all traces. Blocks.

    Args:
        tables: With ``spans`` and ``traces``.
    """
    rows = tables.rows(
        f"WITH calls AS ({CALLS} UNION ALL SELECT '{TRACE}', '', outcome, error_type, duration,"
        " time_to_first_token, input_tokens, output_tokens, cost FROM inside.traces), counted AS"
        " (SELECT *, coalesce(input_tokens + output_tokens, input_tokens, output_tokens) AS tokens"
        " FROM calls) SELECT kind, name, count(*) AS calls,"
        " count(*) FILTER (outcome = 'error') AS failed,"
        " list_sort(list(duration) FILTER (duration IS NOT NULL)) AS seconds,"
        " list_sort(list(first_token) FILTER (first_token IS NOT NULL)) AS first_seconds,"
        " count(tokens) AS tokens, avg(tokens) AS tokens_mean,"
        " stddev_samp(tokens) AS tokens_deviation, count(cost) AS costs, avg(cost) AS cost_mean,"
        " stddev_samp(cost) AS cost_deviation FROM counted GROUP BY kind, name"
    )
    return tuple(
        Sample(row["kind"], row["name"], row["calls"], row["failed"], _measured(row))
        for row in rows
    )


def changes(first: tuple[Sample, ...], second: tuple[Sample, ...]) -> tuple[Change, ...]:
    """Return components side by side: all traces, then by kind, what changed beyond noise first."""
    ones = {(one.kind, one.name): one for one in first}
    others = {(one.kind, one.name): one for one in second}
    made = [
        _change(kind, name, ones.get((kind, name)), others.get((kind, name)))
        for kind, name in {**ones, **others}
    ]
    return tuple(sorted(made, key=_place))


def _measured(row: dict[str, Any]) -> dict[str, Estimate]:
    took, first = row["seconds"] or [], row["first_seconds"] or []
    found = {
        "failure_rate": rate(row["failed"], row["calls"]),
        "p50": quantile(took, 50),
        "p95": quantile(took, 95),
        "first_p50": quantile(first, 50),
        "first_p95": quantile(first, 95),
        "tokens_per_call": mean(row["tokens"], row["tokens_mean"], row["tokens_deviation"]),
        "cost_per_call": mean(row["costs"], row["cost_mean"], row["cost_deviation"]),
    }
    return {name: one for name, one in found.items() if one is not None}


def _change(kind: str, name: str, first: Sample | None, second: Sample | None) -> Change:
    differences = {}
    if first is not None and second is not None:
        differences = {
            measure: difference(one, second.measured[measure])
            for measure, one in first.measured.items()
            if measure in second.measured
        }
    return Change(kind, name, first, second, differences)


def _place(one: Change) -> tuple[Any, ...]:
    calls = sum(side.calls for side in (one.first, one.second) if side is not None)
    return (TRACE, *KINDS).index(one.kind), not one.beyond_noise, -calls, one.name
