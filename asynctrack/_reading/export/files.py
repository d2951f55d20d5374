"""A Run to one file: Parquet, JSON lines, CSV, OpenTelemetry, HTML. A stream, in bounded memory."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final, Protocol

from asynctrack._common.period import ALL, Period
from asynctrack._errors import OptionError
from asynctrack._reading.decoding.events import Event, StoredEvent
from asynctrack._reading.export.html import html_pieces
from asynctrack._reading.export.otlp import otlp_lines
from asynctrack._reading.export.rows import write_csv, write_jsonl, write_parquet
from asynctrack._reading.run import RecordedRun
from asynctrack._reading.tables import span_table
from asynctrack._reading.tables.event_table import COLUMNS as EVENT_COLUMNS
from asynctrack._reading.trees.build import build_traces
from asynctrack._reading.trees.select import Wanted
from asynctrack._reading.trees.trace import Trace

FORMATS: Final = ("parquet", "jsonl", "csv", "otlp", "html")
TABLES: Final = {
    "parquet": ("spans", "events"),
    "jsonl": ("events", "spans"),
    "csv": ("spans", "events"),
    "otlp": ("spans",),
    "html": ("spans",),
}
"""What each format can hold; the first is the default."""
EVERY: Final = 1_000
"""Events between two calls of ``progress``."""

Progress = Callable[[int], None]


class Sink(Protocol):
    """Where bytes go; a file that is open for writing is one."""

    def write(self, content: bytes, /) -> object:
        """Take bytes, all of them."""

    def flush(self) -> object:
        """Pass on what is held."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        rows: Events or spans; traces for ``html``.
        bytes: Size of the file, in bytes.
    """

    rows: int
    bytes: int


def export_run(
    run: RecordedRun,
    format: str,  # noqa: A002  # what users call it
    out: Sink,
    *,
    table: str | None = None,
    limit: int = 0,
    values: str = "resolve",
    trace_id: str | None = None,
    period: Period = ALL,
    progress: Progress = lambda _: None,
) -> Exported:
    """Write a Run to an open file. Blocks.

    Args:
        run: The Run.
        format: One of ``FORMATS``.
        out: Where to; need not be seekable.
        table: ``spans`` or ``events``; None takes the first in ``TABLES``.
        limit: How many rows are written, for ``html`` how many traces; 0 writes all.
        values: ``resolve`` gives every event all it refers to; ``keep``, for the table ``events``,
            gives each value a row before the first event that refers to it.
        trace_id: Only the events or spans of this trace; None writes all.
        period: Only traces that started then, with their spans; of the table ``events`` only those
            of that time.
        progress: Called with how many events were read.

    Raises:
        OptionError: The format is none, or does not hold the table or values.
        MissingExtraError: pyarrow is not installed, and the format is ``parquet``.
        ChecksumError: As ``RecordedRun.events``.
        ReadError: As ``RecordedRun.events``.
        BackendError: As ``RecordedRun.events``.
    """
    if format not in FORMATS:
        raise OptionError("format", format, f"one of {', '.join(FORMATS)}")
    table = table or TABLES[format][0]
    if table not in TABLES[format]:
        raise OptionError("table", table, f"{' or '.join(TABLES[format])} for {format}")
    if limit < 0:
        raise OptionError("limit", limit, "0 or more")
    if values != "resolve" and not (values == "keep" and table == "events"):
        raise OptionError("values", values, f"'resolve', or 'keep' with events, not {table}")
    if values != "resolve" and trace_id is not None:
        # The values of one trace may stand before an event of another one.
        raise OptionError("values", values, "'resolve' with one trace")
    if values != "resolve" and period:
        # They may stand before an event of an earlier time.
        raise OptionError("values", values, "'resolve' with a time")
    counter = _Counter(out)
    reading = run.stored_events() if values == "keep" else run._events(since=period.since_ns)
    with closing(reading) as source:  # type: ignore[type-var]  # a generator
        events = _watched(source, progress)
        if trace_id is not None:
            events = (one for one in events if (one.trace_id or one.span_id) == trace_id)
        if table == "events" and period:
            events = (one for one in events if period.holds(one.time_unix_nano))
        traces = filter(Wanted(period=period).in_time, build_traces(events))
        if format == "html":
            rows = _html(run, traces, counter, limit)
        elif format == "otlp":
            rows = _otlp(run, traces, counter, limit)
        else:
            spans = span_table.spanned(traces)
            items = _limited(_with_values(events) if table == "events" else spans, limit)
            columns = EVENT_COLUMNS if table == "events" else span_table.columns_of(run.prices)
            write = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[format]
            rows = write(run, columns, items, counter)
    return Exported(rows, counter.bytes)


@contextmanager
def selected_traces(
    run: RecordedRun,
    *,
    limit: int = 0,
    trace_id: str | None = None,
    period: Period = ALL,
    progress: Progress = lambda _: None,
) -> Iterator[Iterator[Trace]]:
    """Give those traces of a Run that ``export_run`` would write. Blocks.

    Args:
        run: The Run.
        limit: After how many spans it ends, with a whole trace; 0 gives all.
        trace_id: Only this trace; None gives all.
        period: Only traces that started then.
        progress: Called with how many events were read.
    """
    with closing(run._events(since=period.since_ns)) as source:
        events = _watched(source, progress)
        if trace_id is not None:
            events = (one for one in events if (one.trace_id or one.span_id) == trace_id)
        traces = filter(Wanted(period=period).in_time, build_traces(events))
        yield _whole_within(traces, limit)


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that appears whole at the end of the block; an error leaves nothing.

    Args:
        path: The file.
        replace: Whether it may exist already.

    Raises:
        OptionError: It exists, or its folder does not.
    """
    path = path.expanduser().absolute()
    if not path.parent.is_dir():
        raise OptionError("output", str(path), "a file in a folder that exists")
    if path.is_dir() or (path.exists() and not replace):
        raise OptionError("output", str(path), "a new file; --force writes over one")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not replace and path.exists():  # created meanwhile
            raise OptionError("output", str(path), "a new file; --force writes over one")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class _Counter(io.RawIOBase):
    """Counts what goes into a file."""

    def __init__(self, out: Sink) -> None:
        super().__init__()
        self._out = out
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        self._out.write(bytes(content))  # Arrow's buffers are no bytes
        self.bytes += size
        return size

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        # Python flushes once more when it collects this, and the file may be closed by then:
        # from 3.13 on it reports that on standard error.
        if not getattr(self._out, "closed", False):
            self._out.flush()


def _watched(events: Iterator[Event], progress: Progress) -> Iterator[Event]:
    since = 0
    for event in events:
        yield event
        since += 1
        if since == EVERY:
            progress(since)
            since = 0
    progress(since)


def _with_values(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, StoredEvent):
            yield from map(Event, event.values)
        yield event


def _limited(items: Iterable[Any], limit: int) -> Iterator[Any]:
    for number, item in enumerate(items, 1):
        yield item
        if number == limit:
            return


def _whole_within(traces: Iterable[Trace], limit: int) -> Iterator[Trace]:
    spans = 0
    for trace in traces:
        yield trace
        spans += sum(1 for _ in trace.walk())
        if limit and spans >= limit:
            return


def _otlp(run: RecordedRun, traces: Iterable[Trace], out: _Counter, limit: int) -> int:
    rows = 0

    def counted() -> Iterator[Trace]:
        nonlocal rows
        for trace in _whole_within(traces, limit):
            rows += sum(1 for _ in trace.walk())
            yield trace

    lines = otlp_lines(
        counted(), experiment=run.experiment, run=run.name, version=version("asynctrack")
    )
    for line in lines:
        out.write(line)
    return rows


def _html(run: RecordedRun, traces: Iterable[Trace], out: _Counter, limit: int) -> int:
    rows = 0

    def counted() -> Iterator[Any]:
        nonlocal rows
        for trace in traces:
            rows += 1
            yield trace

    pieces = html_pieces(
        counted(),
        experiment=run.experiment,
        run=run.name,
        uri=run.uris[0],
        parameters=run.parameters,
        limit=limit,
    )
    for piece in pieces:
        out.write(piece)
    return min(rows, limit) if limit else rows
