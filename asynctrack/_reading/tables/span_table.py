"""Traces to tables: one row for each span, flat and typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.extras import load
from asynctrack._reading.trees.prices import Prices, cost_of
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

ROWS: Final = 2_000
"""Rows that become columns at a time: memory holds them several times."""
_NEW: Final = "asynctrack_new_spans"
BATCH_CHARACTERS: Final = 16_000_000
"""Characters of text in them at most, except for a single row."""

Column = tuple[str, str, Callable[[Any], Any]]

COLUMNS: Final[tuple[Column, ...]] = (
    ("trace_id", "text", lambda of: of.span.trace_id),
    ("span_id", "text", lambda of: of.span.span_id),
    ("parent_span_id", "text", lambda of: of.span.parent_span_id),
    ("writer_id", "text", lambda of: of.span.writer_id),
    ("kind", "text", lambda of: of.span.kind),
    ("name", "text", lambda of: of.span.name),
    ("outcome", "text", lambda of: of.span.outcome),
    ("cause", "text", lambda of: of.span.cause),
    ("start", "time", lambda of: of.span.start_unix_nano),
    ("end", "time", lambda of: of.span.end_unix_nano),
    ("duration", "number", lambda of: of.span.duration),
    ("self_time", "number", lambda of: of.span.self_time),
    ("session_id", "text", lambda of: of.session_id),
    ("user_id", "text", lambda of: of.user_id),
    ("thread_id", "text", lambda of: of.thread_id),
    ("weight", "number", lambda of: of.weight),
    ("model", "text", lambda of: of.span.model),
    ("input_tokens", "count", lambda of: of.span.input_tokens),
    ("output_tokens", "count", lambda of: of.span.output_tokens),
    ("cache_read_tokens", "count", lambda of: of.span.cache_read_tokens),
    ("cache_write_tokens", "count", lambda of: of.span.cache_write_tokens),
    ("reasoning_tokens", "count", lambda of: of.span.reasoning_tokens),
    ("audio_input_tokens", "count", lambda of: of.span.audio_input_tokens),
    ("audio_output_tokens", "count", lambda of: of.span.audio_output_tokens),
    ("cost", "number", lambda of: None),
    ("stream_tokens", "count", lambda of: _stream(of.span, "count", int)),
    ("time_to_first_token", "number", lambda of: _stream(of.span, "time_to_first_token", float)),
    ("error_type", "text", lambda of: of.span.error and of.span.error.type),
    ("error_message", "text", lambda of: of.span.error and of.span.error.message),
    ("inputs", "text", lambda of: json_text(of.span.inputs)),
    ("outputs", "text", lambda of: json_text(of.span.outputs)),
    ("tags", "texts", lambda of: list(of.span.tags)),
    ("metadata", "text", lambda of: json_text(dict(of.span.metadata))),
    ("attributes", "text", lambda of: json_text(dict(of.span.attributes))),
    ("data", "text", lambda of: json_text(dict(of.span.data))),
    ("notes", "count", lambda of: len(of.span.notes)),
    ("orphan", "truth", lambda of: of.span.orphan),
    ("spooled", "truth", lambda of: of.span.spooled),
)
"""Name, type and value of each column. Times are in UTC, durations in seconds; payloads JSON;
session, user, thread and weight are the trace's. ``cost`` is of the prices given, see
``columns_of``."""

_POSITION: Final[Column] = ("position", "count", lambda of: of.span.position)
"""Orders a table; clocks may be set while spans start."""


class Spanned(NamedTuple):
    """A span, and what its trace says."""

    span: Span
    session_id: str | None
    user_id: str | None
    thread_id: str | None
    weight: float


def columns_of(prices: Prices | None) -> tuple[Column, ...]:
    """Return the columns of spans, with the cost by prices; it is empty without them."""
    if prices is None:
        return COLUMNS
    costs: Column = ("cost", "number", lambda of: cost_of(of.span, prices))
    return tuple(costs if column[0] == "cost" else column for column in COLUMNS)


def spanned(traces: Iterable[Trace]) -> Iterator[Spanned]:
    """Yield the spans of traces, as the columns take them."""
    for trace in traces:
        ids = trace.session_id, trace.user_id, trace.thread_id, trace.weight
        for span in trace.walk():
            yield Spanned(span, *ids)


def spans_to_arrow(traces: Iterable[Trace], prices: Prices | None = None) -> Any:
    """Return a ``pyarrow.Table`` with a row for each span, by start.

    Args:
        traces: The spans.
        prices: What models cost.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow = load("run.to_arrow()", "pyarrow")
    columns = (*columns_of(prices), _POSITION)
    schema = schema_of(pyarrow, columns)
    table = pyarrow.Table.from_batches(record_batches(pyarrow, columns, spanned(traces)), schema)
    return table.sort_by("position").drop_columns(["position"])


def spans_to_pandas(traces: Iterable[Trace], prices: Prices | None = None) -> Any:
    """Return a ``pandas.DataFrame`` with a row for each span, by start.

    Args:
        traces: The spans.
        prices: What models cost.

    Raises:
        MissingExtraError: pandas or pyarrow is not installed.
    """
    pandas = load("run.to_pandas()", "pandas")
    pyarrow = load("run.to_pandas()", "pyarrow")
    # Counts that may be absent stay whole numbers: a NaN would make them floats.
    nullable = {pyarrow.int64(): pandas.Int64Dtype(), pyarrow.bool_(): pandas.BooleanDtype()}
    frame = spans_to_arrow(traces, prices).to_pandas(types_mapper=nullable.get)
    frame["tags"] = frame["tags"].map(list)
    return frame


def spans_to_duckdb(
    traces: Iterable[Trace],
    parameters: Mapping[str, Any],
    connection: Any = None,
    prices: Prices | None = None,
) -> Any:
    """Return a DuckDB connection with the tables ``spans`` and ``parameters``.

    Args:
        traces: The spans; they are taken in piece by piece.
        parameters: Names and values; values become JSON text.
        connection: Where to put the tables, replacing those that are there; None makes a
            database in memory.
        prices: What models cost.

    Raises:
        MissingExtraError: duckdb or pyarrow is not installed.
    """
    duckdb = load("run.to_duckdb()", "duckdb")
    pyarrow = load("run.to_duckdb()", "pyarrow")
    schema = schema_of(pyarrow, COLUMNS)
    connection = duckdb.connect() if connection is None else connection
    values = pyarrow.table(
        {
            "name": pyarrow.array(list(parameters), pyarrow.string()),
            "value": pyarrow.array(map(json_text, parameters.values()), pyarrow.string()),
        }
    )
    # Ends an answer the user may have left unread; fails within a transaction of theirs.
    connection.begin()
    connection.commit()
    try:
        # Beside the tables that are there, and each piece in its own transaction: DuckDB holds a
        # whole transaction in memory.
        _create(connection, _NEW, schema.empty_table())
        for batch in record_batches(pyarrow, columns_of(prices), spanned(traces)):
            _insert(connection, _NEW, pyarrow.Table.from_batches([batch]))
        connection.begin()
        try:
            connection.execute("DROP TABLE IF EXISTS spans")
            connection.execute(f"ALTER TABLE {_NEW} RENAME TO spans")
            _create(connection, "parameters", values)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    except BaseException:
        connection.execute(f"DROP TABLE IF EXISTS {_NEW}")
        raise
    return connection


def rows_to_pandas(what: str, rows: list[dict[str, Any]]) -> Any:
    """Return a ``pandas.DataFrame`` of rows.

    Args:
        what: The call, for the error.
        rows: The rows; a column that a row lacks is empty there.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    pandas = load(what, "pandas")
    frame = pandas.DataFrame(
        rows, columns=list(dict.fromkeys(name for row in rows for name in row))
    )
    for name in frame.columns:
        values = [row.get(name) for row in rows]
        given = [value for value in values if value is not None]
        # Whole numbers that some rows lack stay whole: a NaN would make them floats.
        if given and all(type(value) is int and abs(value) < 2**63 for value in given):
            frame[name] = pandas.array(values, dtype="Int64")
    return frame


def _create(connection: Any, name: str, table: Any) -> None:
    connection.register("asynctrack_rows", table)
    try:
        connection.execute(
            f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM asynctrack_rows"  # noqa: S608  # our own name
        )
    finally:
        connection.unregister("asynctrack_rows")


def _insert(connection: Any, name: str, table: Any) -> None:
    connection.register("asynctrack_rows", table)
    try:
        connection.execute(f"INSERT INTO {name} SELECT * FROM asynctrack_rows")  # noqa: S608  # our own name
    finally:
        connection.unregister("asynctrack_rows")


def schema_of(pyarrow: Any, columns: Sequence[Column]) -> Any:
    """Return the ``pyarrow.Schema`` of columns."""
    types = {
        "text": pyarrow.string(),
        "texts": pyarrow.list_(pyarrow.string()),
        "time": pyarrow.timestamp("ns", tz="UTC"),
        "number": pyarrow.float64(),
        "count": pyarrow.int64(),
        "truth": pyarrow.bool_(),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind, _ in columns])


def record_batches(pyarrow: Any, columns: Sequence[Column], items: Iterable[Any]) -> Iterator[Any]:
    """Yield ``pyarrow.RecordBatch`` with a row for each item.

    A batch ends after ``ROWS``, or sooner if its texts are long: both bound the memory.

    Args:
        pyarrow: The package.
        columns: The columns.
        items: What the columns' functions take.
    """
    schema = schema_of(pyarrow, columns)
    values: list[list[Any]] = [[] for _ in columns]
    takers = [
        (column.append, take, kind == "text")
        for column, (_, kind, take) in zip(values, columns, strict=True)
    ]
    held = 0
    for item in items:
        for append, take, text in takers:
            value = take(item)
            if text and value is not None:
                held += len(value)
            append(value)
        if len(values[0]) >= ROWS or held >= BATCH_CHARACTERS:
            yield _batch(pyarrow, schema, values)
            held = 0
    if values[0]:
        yield _batch(pyarrow, schema, values)


def time_text(nanoseconds: int) -> str:
    """Return a time as text in UTC, with all its digits: ``2026-01-31 12:00:00.000000001``."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):  # any number may have been logged
        return str(nanoseconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest:09d}"


def _batch(pyarrow: Any, schema: Any, columns: list[list[Any]]) -> Any:
    arrays = [
        pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)
    ]
    for column in columns:
        column.clear()
    return pyarrow.record_batch(arrays, schema=schema)


def _stream(span: Span, name: str, kind: type[Any]) -> Any:
    value = (span.stream or {}).get(name)
    allowed = (int, float) if kind is float else (int,)
    if type(value) not in allowed:
        return None
    assert isinstance(value, (int, float))
    return value if kind is float or abs(value) < 2**63 else None
