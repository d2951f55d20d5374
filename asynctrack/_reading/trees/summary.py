"""A Run in numbers: counts, tokens, cost, percentiles."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from asynctrack._common.outcome import OUTCOMES
from asynctrack._reading.sources.manifests import Metric, Problem, RunManifest
from asynctrack._reading.trees.prices import Prices, cost_of
from asynctrack._reading.trees.span import TOKEN_PARTS, seconds
from asynctrack._reading.trees.trace import Trace

MODEL_KINDS: Final = frozenset({"llm", "chat_model"})
_MEASURED: Final = ("trace", "model", "first", "trace_first", "read", "written")
_COUNTED: Final = (
    "spans", "traces", "incomplete", "errors", "recovered", "calls", "spooled", "priced"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of measurements; all None if there are none.

    Attributes:
        count: How many there are.
        p50: The median.
        p90: 90 of 100 are at most this.
        p95: 95 of 100 are at most this.
        p99: 99 of 100 are at most this.
        max: The largest.
    """

    count: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A Run in numbers.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        uri: Its address.
        closed: Whether all its writers have ended as they should.
        writers: How many there are.
        spans: How many there are.
        traces: How many there are.
        failed: Traces whose root ended with an error.
        cancelled: Traces that were cancelled.
        interrupted: Traces that LangGraph's control flow left: they pause, or go on elsewhere.
        unfinished: Traces whose root has not ended.
        abandoned: Traces whose writer gave up waiting for their end.
        incomplete: Traces of which something is missing.
        errors: Spans that ended with an error.
        recovered: Errors that came up in traces that did not fail.
        model_calls: Spans of models.
        input_tokens: What models read, as far as known.
        output_tokens: What models wrote, as far as known.
        cache_read_tokens: Of the input, what came from the provider's cache.
        cache_write_tokens: Of the input, what went into it.
        reasoning_tokens: Of the output, what was reasoning.
        audio_input_tokens: Of the input, what was audio.
        audio_output_tokens: Of the output, what was audio.
        cost: What model calls cost, in USD, by the prices given; None where none is known.
        unpriced: Model calls whose cost is not known: no price given, or no tokens; None without
            prices.
        spooled: Spans of which something was read from this machine's spool.
        start_unix_nano: When its first span started; None without one.
        end_unix_nano: When its last span ended; None without one.
        trace_seconds: How long traces took.
        model_seconds: How long model calls took.
        first_token_seconds: How long streams took to their first token.
        trace_first_token_seconds: How long traces took to the first text that a model streamed.
        call_input_tokens: What each model call read.
        call_output_tokens: What each model call wrote.
        parameters: The Run's parameters.
        metrics: The Run's metrics.
        problems: How many things could not be read, see ``RecordedRun.problems``.
    """

    experiment: str
    run: str
    uri: str
    closed: bool
    writers: int
    spans: int
    traces: int
    failed: int
    cancelled: int
    interrupted: int
    unfinished: int
    abandoned: int
    incomplete: int
    errors: int
    recovered: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    cost: float | None
    unpriced: int | None
    spooled: int
    start_unix_nano: int | None
    end_unix_nano: int | None
    trace_seconds: Percentiles
    model_seconds: Percentiles
    first_token_seconds: Percentiles
    trace_first_token_seconds: Percentiles
    call_input_tokens: Percentiles
    call_output_tokens: Percentiles
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    problems: int

    def row(self) -> dict[str, Any]:
        """Return it flat: ``trace_seconds.p95``, ``parameters.<name>``, ``metrics.<name>``."""
        row: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Percentiles):
                marks = ("p50", "p90", "p95", "p99", "max")
                row.update({f"{name}.{mark}": getattr(value, mark) for mark in marks})
            elif name == "parameters":
                row.update({f"parameters.{key}": item for key, item in value.items()})
            elif name == "metrics":
                row.update({f"metrics.{key}": item.last for key, item in value.items()})
            else:
                row[name] = value
        return row


class Summarized(Protocol):
    """What is summed up: a ``RecordedRun``."""

    @property
    def experiment(self) -> str:
        """The experiment's name."""

    @property
    def name(self) -> str:
        """The Run's name."""

    @property
    def uris(self) -> tuple[str, ...]:
        """The addresses of its folders."""

    @property
    def manifest(self) -> RunManifest:
        """What its writers say they delivered."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters."""

    @property
    def metrics(self) -> dict[str, Metric]:
        """Its metrics."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be read so far."""

    def traces(self) -> Iterator[Trace]:
        """Yield its traces."""


def summarize(
    run: Summarized, *, traces: Iterable[Trace] | None = None, prices: Prices | None = None
) -> RunSummary:
    """Read a Run's events once and return it in numbers; takes eight bytes for each measurement.

    Args:
        run: The Run.
        traces: Its traces, if the caller reads them as well; None reads them here.
        prices: What models cost.
    """
    measured = {name: array("d") for name in _MEASURED}
    counts = dict.fromkeys(_COUNTED, 0)
    outcomes = dict.fromkeys(OUTCOMES, 0)
    parts: dict[str, Any] = dict.fromkeys(TOKEN_PARTS, 0)
    cost = 0.0
    start: int | None = None
    end: int | None = None
    for trace in run.traces() if traces is None else traces:
        counts["traces"] += 1
        counts["incomplete"] += not trace.complete
        outcomes[trace.outcome] += 1
        raised = 0
        _add(measured["trace"], trace.duration)
        _add(measured["trace_first"], trace.time_to_first_token)
        for span in trace.walk():
            counts["spans"] += 1
            counts["errors"] += span.outcome == "error"
            raised += span.raised
            counts["spooled"] += span.spooled
            if span.start_unix_nano is not None:
                start = min(start or span.start_unix_nano, span.start_unix_nano)
            if span.end_unix_nano is not None:
                end = max(end or 0, span.end_unix_nano)
            if span.kind in MODEL_KINDS:
                counts["calls"] += 1
                price = None if prices is None else cost_of(span, prices)
                if price is not None:
                    counts["priced"] += 1
                    cost += price
                _add(measured["model"], span.duration)
                _add(measured["first"], seconds((span.stream or {}).get("time_to_first_token")))
                _add(measured["read"], span.input_tokens)
                _add(measured["written"], span.output_tokens)
                for name in TOKEN_PARTS:
                    parts[name] += getattr(span, name) or 0
        counts["recovered"] += 0 if trace.failed else raised
    return RunSummary(
        **known_of(run),
        spans=counts["spans"],
        traces=counts["traces"],
        failed=outcomes["error"],
        cancelled=outcomes["cancelled"],
        interrupted=outcomes["interrupted"],
        unfinished=outcomes["unfinished"],
        abandoned=outcomes["abandoned"],
        incomplete=counts["incomplete"],
        errors=counts["errors"],
        recovered=counts["recovered"],
        model_calls=counts["calls"],
        input_tokens=int(sum(measured["read"])),
        output_tokens=int(sum(measured["written"])),
        **parts,
        cost=cost if counts["priced"] else None,
        unpriced=None if prices is None else counts["calls"] - counts["priced"],
        spooled=counts["spooled"],
        start_unix_nano=start,
        end_unix_nano=end,
        trace_seconds=percentiles(measured["trace"]),
        model_seconds=percentiles(measured["model"]),
        first_token_seconds=percentiles(measured["first"]),
        trace_first_token_seconds=percentiles(measured["trace_first"]),
        call_input_tokens=percentiles(measured["read"]),
        call_output_tokens=percentiles(measured["written"]),
    )


def known_of(run: Summarized) -> dict[str, Any]:
    """Return what is known of a Run besides its traces, as fields of ``RunSummary``."""
    manifest = run.manifest
    return {
        "experiment": run.experiment,
        "run": run.name,
        "uri": run.uris[0],
        "closed": manifest.closed,
        "writers": len(manifest.writers),
        "parameters": run.parameters,
        "metrics": run.metrics,
        "problems": len(run.problems),
    }


def percentiles(values: array[float]) -> Percentiles:
    """Return exact percentiles: each is the smallest value that so many are at most."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return Percentiles(0, None, None, None, None, None)
    p50, p90, p95, p99 = (ordered[-(-count * p // 100) - 1] for p in (50, 90, 95, 99))
    return Percentiles(count, p50, p90, p95, p99, ordered[-1])


def _add(values: array[float], value: Any) -> None:
    if type(value) in (int, float):
        values.append(value)
