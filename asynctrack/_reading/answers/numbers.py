"""A Run in numbers, and its traces worth a look: what ``summarize`` counts, by SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asynctrack._common.outcome import OUTCOMES, Cause, Outcome
from asynctrack._reading.index.tables import Tables
from asynctrack._reading.trees.prices import Prices
from asynctrack._reading.trees.span import TOKEN_PARTS
from asynctrack._reading.trees.summary import Percentiles, RunSummary, Summarized, known_of
from asynctrack._reading.trees.trace import Trace

MARKS: Final = (0.5, 0.9, 0.95, 0.99)
_OF_CALLS: Final = {
    "model_seconds": "duration",
    "first_token_seconds": "time_to_first_token",
    "call_input_tokens": "input_tokens",
    "call_output_tokens": "output_tokens",
}
_OF_TRACES: Final = {
    "trace_seconds": "duration",
    "trace_first_token_seconds": "time_to_first_token",
}
_LAST: Final = "coalesce(_start, 0) DESC, _no DESC"


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A trace on one line.

    Attributes:
        trace_id: Its id.
        name: The root's name.
        outcome: How its root ended.
        cause: Why, where it was cancelled or interrupted.
        duration: Seconds; None where its root is not whole.
        start_unix_nano: When it started.
        spans: How many it has.
        input_tokens: What its models read.
        output_tokens: What its models wrote.
        complete: Whether nothing of it is missing.
        error: Type and message of the root's error.
        error_span: The span to blame: the deepest one whose error that is.
    """

    trace_id: str
    name: str
    outcome: Outcome
    cause: Cause | None
    duration: float | None
    start_unix_nano: int | None
    spans: int
    input_tokens: int
    output_tokens: int
    complete: bool
    error: str = ""
    error_span: str = ""


@dataclass(frozen=True, slots=True)
class Remarkable:
    """The traces worth a look; a few of each.

    Attributes:
        slowest: The slowest ones first.
        failed: The last ones that failed.
        incomplete: The last ones of which something is missing, and that did not fail.
    """

    slowest: tuple[TraceLine, ...]
    failed: tuple[TraceLine, ...]
    incomplete: tuple[TraceLine, ...]


def numbers(tables: Tables, run: Summarized, prices: Prices | None) -> RunSummary:
    """Return a Run in numbers, as ``summarize`` does. Blocks.

    Args:
        tables: With ``spans`` and ``traces`` of this Run.
        run: The Run.
        prices: What models cost; those of the tables.
    """
    outcomes = ", ".join(f"count(*) FILTER (outcome = '{one}') AS \"{one}\"" for one in OUTCOMES)
    (traces,) = tables.rows(
        f"SELECT count(*) AS traces, count(*) FILTER (NOT complete) AS incomplete, {outcomes},"
        f" coalesce(sum(recovered), 0)::BIGINT AS recovered, {_measured(_OF_TRACES)}"
        " FROM inside.traces"
    )
    (spans,) = tables.rows(
        "SELECT count(*) AS spans, count(*) FILTER (outcome = 'error') AS errors,"
        " count(*) FILTER (spooled) AS spooled, min(_start) AS start_unix_nano,"
        " max(_end) AS end_unix_nano FROM inside.spans"
    )
    sums = ", ".join(
        f"coalesce(sum({name}), 0)::BIGINT AS {name}"
        for name in ("input_tokens", "output_tokens", *TOKEN_PARTS)
    )
    (calls,) = tables.rows(
        f"SELECT count(*) AS model_calls, count(cost) AS priced, sum(cost) AS cost, {sums},"
        f" {_measured(_OF_CALLS)} FROM inside.spans WHERE kind IN ('llm', 'chat_model')"
    )
    priced = calls.pop("priced")
    counted: dict[str, Any] = {name: traces.pop(name) for name in OUTCOMES}
    counted["failed"] = counted.pop("error")
    del counted["ok"]
    return RunSummary(
        **known_of(run),
        **spans,
        **counted,
        **_percentiles(traces, _OF_TRACES),
        **_percentiles(calls, _OF_CALLS),
        unpriced=None if prices is None else calls["model_calls"] - priced,
    )


def remarkable(tables: Tables, at_most: int) -> Remarkable:
    """Return the traces worth a look. Blocks.

    Args:
        tables: With ``spans`` and ``traces``.
        at_most: How many of each.
    """
    return Remarkable(
        _lines(tables, "duration IS NOT NULL", "duration DESC, coalesce(_start, 0), _no", at_most),
        _lines(tables, "outcome = 'error'", _LAST, at_most)[::-1],
        _lines(tables, "outcome <> 'error' AND NOT complete", _LAST, at_most)[::-1],
    )


def trace_line(trace: Trace) -> TraceLine:
    """Return a trace on one line."""
    root, blame = trace.root, trace.blame
    return TraceLine(
        trace_id=trace.trace_id,
        name=root.name or root.kind,
        outcome=root.outcome,
        cause=root.cause,
        duration=trace.duration,
        start_unix_nano=trace.start_unix_nano,
        spans=sum(1 for _ in trace.walk()),
        input_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens,
        complete=trace.complete,
        error="" if root.error is None else root.error.line,
        error_span="" if blame is None else blame.name or blame.kind,
    )


def _lines(tables: Tables, where: str, order: str, at_most: int) -> tuple[TraceLine, ...]:
    # The chosen span of a trace that failed is the one to blame.
    rows = tables.rows(
        "WITH chosen AS (SELECT trace_id, name, outcome, cause, duration,"
        " _start, _start AS start_unix_nano, spans, input_tokens, output_tokens, complete,"
        " if(outcome <> 'error', '', concat_ws(': ', error_type, nullif(error_message, '')))"
        f" AS error, _no, _chosen FROM inside.traces WHERE {where} ORDER BY {order} LIMIT ?),"
        " blamed AS (SELECT _no, _place AS _chosen, coalesce(name, kind) AS span"
        " FROM inside.spans WHERE _no IN (SELECT _no FROM chosen))"
        " SELECT * EXCLUDE (_start, _no, _chosen, span),"
        " if(outcome = 'error', coalesce(span, ''), '') AS error_span"
        f" FROM chosen LEFT JOIN blamed USING (_no, _chosen) ORDER BY {order}",
        [at_most],
    )
    return tuple(TraceLine(**row) for row in rows)


def _measured(columns: dict[str, str]) -> str:
    marks = ", ".join(map(str, MARKS))
    return ", ".join(
        f"count({column}) AS {name}_count,"
        f" quantile_disc({column}::DOUBLE, [{marks}]) AS {name}_marks,"
        f" max({column})::DOUBLE AS {name}_max"
        for name, column in columns.items()
    )


def _percentiles(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """Return a row in which what was measured is ``Percentiles``."""
    for name in columns:
        count, marks = row.pop(f"{name}_count"), row.pop(f"{name}_marks")
        p50, p90, p95, p99 = marks or [None] * len(MARKS)
        row[name] = Percentiles(count, p50, p90, p95, p99, row.pop(f"{name}_max"))
    return row
