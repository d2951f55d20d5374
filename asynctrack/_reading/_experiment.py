"""``open_experiment``: all Runs of an experiment, side by side."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from asynctrack._backends.s3_read import Access
from asynctrack._errors import OptionError
from asynctrack._reading._manifests import Metric
from asynctrack._reading._merge import AHEAD
from asynctrack._reading._open import Found, Place, locate_experiment
from asynctrack._reading._prices import GivenPrices, Prices, cost_of, read_prices
from asynctrack._reading._read import Damaged, RecordedRun
from asynctrack._reading._s3_options import resolve_s3_options
from asynctrack._reading._sources import bullets, spellings
from asynctrack._reading._span import Trace
from asynctrack._reading._spooled import GivenSpool, Spool, this_spool
from asynctrack._reading._threads import in_thread

MODEL_KINDS: Final = frozenset({"llm", "chat_model"})


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What a number of measurements looks like; all None where there is none.

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
        unfinished: Traces of which something is missing.
        failed: Traces whose root ended with an error.
        errors: Spans that ended with an error.
        model_calls: Spans of models.
        input_tokens: What models read, as far as it is known.
        output_tokens: What models wrote, as far as it is known.
        cost: What model calls cost, in USD, by the prices given; None where none is known.
        unpriced: Model calls whose cost is not known: no price given, or no tokens; None without
            prices.
        spooled: Spans of which something was read from this machine's spool.
        start_unix_nano: When its first span started; None without one.
        end_unix_nano: When its last span ended; None without one.
        trace_seconds: How long traces took.
        model_seconds: How long model calls took.
        first_token_seconds: How long streams took to their first token.
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
    unfinished: int
    failed: int
    errors: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    unpriced: int | None
    spooled: int
    start_unix_nano: int | None
    end_unix_nano: int | None
    trace_seconds: Percentiles
    model_seconds: Percentiles
    first_token_seconds: Percentiles
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


class RecordedExperiment:
    """An experiment that was tracked. Made by ``open_experiment``.

    Args:
        name: The experiment's name.
        found: Its Runs.
        damaged: As for ``open_run``.
        concurrency: As for ``open_run``.
        spool: This machine's spool; empty reads delivered events only.
        prices: What models cost.
    """

    def __init__(
        self,
        name: str,
        found: list[Found],
        *,
        damaged: Damaged = "raise",
        concurrency: int = AHEAD,
        spool: Spool = (),
        prices: Prices | None = None,
    ) -> None:
        self.name = name
        self.runs = tuple(
            RecordedRun(
                one,
                damaged=damaged,
                concurrency=concurrency,
                spool=spool,
                prices=prices,
            )
            for one in found
        )

    def __repr__(self) -> str:
        return f"RecordedExperiment({self.name!r}, {len(self.runs)} runs)"

    def __iter__(self) -> Iterator[RecordedRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> RecordedRun:
        """Return a Run by its name.

        Raises:
            KeyError: There is none, or more than one; the text lists them.
        """
        named: list[RecordedRun] = []
        for (one,) in spellings(name):
            named = named or [run for run in self.runs if run.name == one]
        if len(named) != 1:
            there = bullets([run.uris[0] for run in named or self.runs])
            raise KeyError(f"{len(named)} runs are called {name!r}:{there}")
        return named[0]

    @cached_property
    def summaries(self) -> tuple[RunSummary, ...]:
        """Each Run in numbers. Reads all events of all Runs, once.

        Raises:
            ChecksumError: As ``RecordedRun.events``.
            ReadError: As ``RecordedRun.events``.
            BackendError: As ``RecordedRun.events``.
        """
        return tuple(run.summary() for run in self.runs)

    async def asummaries(self) -> tuple[RunSummary, ...]:
        """Return ``summaries``, from async code; the property blocks for nothing after it."""
        return await in_thread(lambda: self.summaries)

    async def ato_pandas(self) -> Any:
        """Return what ``to_pandas`` does, from async code."""
        return await in_thread(self.to_pandas)

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with a row for each Run. Needs ``asynctrack[read]``.

        Parameters, last values of metrics, percentiles of latency (seconds) and tokens, errors;
        ``cost`` in USD where prices were given.
        """
        from asynctrack._reading import _tables

        rows = [summary.row() for summary in self.summaries]
        return _tables.rows_to_pandas("experiment.to_pandas()", rows)


def open_experiment(
    source: Place,
    *,
    root: Place | None = None,
    damaged: Damaged = "raise",
    concurrency: int = AHEAD,
    spool_dir: GivenSpool = True,
    prices: GivenPrices = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    session: Any = None,
    s3_options: Mapping[str, Any] | None = None,
) -> RecordedExperiment:
    """Open all tracked Runs of an experiment. Blocks: it looks where they are.

    Args:
        source: The experiment's name, or the ``s3://`` address or folder of it, or of any one
            above that holds no other experiment.
        root: With a name: the ``s3://`` address or folder to look below; None asks SageMaker.
        damaged: As for ``open_run``.
        concurrency: As for ``open_run``.
        spool_dir: As for ``open_run``.
        prices: As for ``open_run``.
        endpoint_url: As for ``open_run``.
        profile: As for ``open_run``.
        region: As for ``open_run``.
        session: As for ``open_run``.
        s3_options: As for ``open_run``.

    Raises:
        NotFoundError: There is none.
        SeveralRunsError: There are several experiments; the text lists them.
        OptionError: An option is not allowed.
        ReadError: A folder cannot be read.
        BackendError: AWS said no, or could not be reached in several attempts.
    """
    if damaged not in ("raise", "set_aside"):
        raise OptionError("damaged", damaged, "'raise' or 'set_aside'")
    access = Access(
        endpoint_url, profile, region, session, s3_options=resolve_s3_options(s3_options)
    )
    spool = this_spool(spool_dir)
    known_prices = read_prices(prices)
    name, found = locate_experiment(source, root, access, spool)
    return RecordedExperiment(
        name,
        found,
        damaged=damaged,
        concurrency=concurrency,
        spool=spool,
        prices=known_prices,
    )


async def aopen_experiment(source: Place, **options: Any) -> RecordedExperiment:
    """Open an experiment from async code: ``open_experiment`` in a thread, with its arguments."""
    return await in_thread(lambda: open_experiment(source, **options))


def summarize(
    run: RecordedRun, *, traces: Iterable[Trace] | None = None, prices: Prices | None = None
) -> RunSummary:
    """Read a Run's events once and return it in numbers; eight bytes for each measurement.

    Args:
        run: The Run.
        traces: Its traces, where somebody else reads them as well; None reads them.
        prices: What models cost.
    """
    measured = {name: array("d") for name in ("trace", "model", "first", "read", "written")}
    names = ("spans", "traces", "unfinished", "failed", "errors", "calls", "spooled", "priced")
    counts = dict.fromkeys(names, 0)
    cost = 0.0
    start: int | None = None
    end: int | None = None
    for trace in run.traces() if traces is None else traces:
        counts["traces"] += 1
        counts["unfinished"] += not trace.complete
        root = trace.root
        counts["failed"] += root is not None and root.error is not None
        _add(measured["trace"], trace.duration)
        for span in trace.walk():
            counts["spans"] += 1
            counts["errors"] += span.error is not None
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
                _add(measured["first"], (span.stream or {}).get("time_to_first_token"))
                _add(measured["read"], span.input_tokens)
                _add(measured["written"], span.output_tokens)
    manifest = run.manifest
    return RunSummary(
        experiment=run.experiment,
        run=run.name,
        uri=run.uris[0],
        closed=manifest.closed,
        writers=len(manifest.writers),
        spans=counts["spans"],
        traces=counts["traces"],
        unfinished=counts["unfinished"],
        failed=counts["failed"],
        errors=counts["errors"],
        model_calls=counts["calls"],
        input_tokens=int(sum(measured["read"])),
        output_tokens=int(sum(measured["written"])),
        cost=cost if counts["priced"] else None,
        unpriced=None if prices is None else counts["calls"] - counts["priced"],
        spooled=counts["spooled"],
        start_unix_nano=start,
        end_unix_nano=end,
        trace_seconds=percentiles(measured["trace"]),
        model_seconds=percentiles(measured["model"]),
        first_token_seconds=percentiles(measured["first"]),
        call_input_tokens=percentiles(measured["read"]),
        call_output_tokens=percentiles(measured["written"]),
        parameters=run.parameters,
        metrics=run.metrics,
        problems=len(run.problems),
    )


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
