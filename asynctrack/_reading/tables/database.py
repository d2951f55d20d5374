"""A DuckDB database with the tables ``spans``, ``events`` and ``parameters``, filled in pieces.

The rows come from the verified, folded stream of events that ``open_run`` reads: a table is the
same for a folder and for S3, and an event that is stored twice is one row. It needs no extension of
DuckDB, not even httpfs. Memory stays bounded: rows go into the database a few thousand at a time,
and a database on disk holds what memory does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from asynctrack._reading.decoding.events import Event, json_text
from asynctrack._reading.extras import load
from asynctrack._reading.tables import span_table
from asynctrack._reading.trees.build import LINGER, TraceBuilder
from asynctrack._reading.trees.prices import Prices
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

TABLES: Final = ("spans", "events", "parameters")

EVENT_COLUMNS: Final[tuple[tuple[str, str, Callable[[Event], Any]], ...]] = (
    ("writer_id", "text", lambda event: event.raw["writer_id"]),
    ("seq", "count", lambda event: event.raw["seq"]),
    ("time", "time", lambda event: event.raw["time_unix_nano"]),
    ("time_unix_nano", "count", lambda event: event.raw["time_unix_nano"]),
    ("event", "text", lambda event: event.raw["event"]),
    ("span_id", "text", lambda event: event.raw.get("span_id")),
    ("parent_span_id", "text", lambda event: event.raw.get("parent_span_id")),
    ("trace_id", "text", lambda event: event.raw.get("trace_id")),
    ("name", "text", lambda event: event.raw.get("name")),
    ("tags", "texts", lambda event: event.raw.get("tags") or []),
    ("metadata", "text", lambda event: json_text(event.raw.get("metadata"))),
    ("inputs", "text", lambda event: json_text(event.raw.get("inputs"))),
    ("outputs", "text", lambda event: json_text(event.raw.get("outputs"))),
    ("error", "text", lambda event: json_text(event.raw.get("error"))),
    ("data", "text", lambda event: json_text(event.raw.get("data"))),
    ("attributes", "text", lambda event: json_text(event.raw.get("attributes"))),
)
"""Name, type and value of each column of ``events``. Payloads are JSON text."""

PARAMETER_COLUMNS: Final = (
    ("name", "text", lambda pair: pair[0]),
    ("value", "text", lambda pair: json_text(pair[1])),
)

_COLUMNS: Final[Mapping[str, tuple[span_table.Column, ...]]] = {
    "spans": span_table.COLUMNS,
    "events": EVENT_COLUMNS,
    "parameters": PARAMETER_COLUMNS,
}

CONFIG: Final = {
    # DuckDB fetches nothing from the network and reads no variables of Python.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}

Progress = Callable[[int], None]
"""Called with how many events were read since the last call."""


class Database:
    """A DuckDB database with the tables ``spans``, ``events`` and ``parameters``.

    Every row begins with ``experiment`` and ``run``. Only one thread at a time may fill it;
    readers use a cursor of ``connection`` each.

    Args:
        path: The file, made when it is missing; None makes a database in memory.
        config: Settings of DuckDB, besides those that keep it from the network.

    Attributes:
        connection: The DuckDB connection.

    Raises:
        MissingExtraError: duckdb or pyarrow is not installed.
    """

    def __init__(self, path: Path | None = None, config: Mapping[str, Any] | None = None) -> None:
        duckdb = load("the database", "duckdb")
        self._pyarrow = load("the database", "pyarrow")
        settings = {**CONFIG, **(config or {})}
        self.connection = duckdb.connect(":memory:" if path is None else str(path), config=settings)
        self.connection.execute("SET TimeZone = 'UTC'")
        for name in TABLES:
            columns = ", ".join(
                f'"{column}" {span_table.SQL_TYPES[kind]}' for column, kind, _ in _COLUMNS[name]
            )
            self.connection.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (experiment VARCHAR, run VARCHAR, {columns})"
            )

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_parameters(self, experiment: str, run: str, parameters: Mapping[str, Any]) -> None:
        """Put a Run's parameters into the table, in place of those that are there."""
        self.connection.execute(
            "DELETE FROM parameters WHERE experiment = ? AND run = ?", [experiment, run]
        )
        self._insert("parameters", experiment, run, parameters.items())

    def insert_spans(
        self, experiment: str, run: str, spans: Iterable[Span], prices: Prices | None = None
    ) -> None:
        """Insert spans, with what they cost by prices."""
        self._insert("spans", experiment, run, spans, span_table.columns_of(prices))

    def insert_events(self, experiment: str, run: str, events: Iterable[Event]) -> None:
        """Insert events."""
        self._insert("events", experiment, run, events)

    def _insert(
        self,
        table: str,
        experiment: str,
        run: str,
        items: Iterable[Any],
        columns: tuple[span_table.Column, ...] | None = None,
    ) -> None:
        for batch in span_table.record_batches(self._pyarrow, columns or _COLUMNS[table], items):
            rows = self._pyarrow.Table.from_batches([batch])
            self.connection.register("asynctrack_rows", rows)
            try:
                self.connection.execute(
                    f"INSERT INTO {table} SELECT ?, ?, * FROM asynctrack_rows",  # noqa: S608  # our own names
                    [experiment, run],
                )
            finally:
                self.connection.unregister("asynctrack_rows")


class Feed:
    """Puts the events of a Run into a database as they come, also while it is being written.

    Args:
        database: Where to.
        experiment: The experiment's name.
        run: The Run's name.
        tables: ``spans``, ``events`` or both.
        prices: What models cost.
        linger: How many events a complete trace waits for late ones.
    """

    def __init__(
        self,
        database: Database,
        experiment: str,
        run: str,
        tables: Iterable[str] = ("spans", "events"),
        *,
        prices: Prices | None = None,
        linger: int = LINGER,
    ) -> None:
        self._database = database
        self._prices = prices
        self._of = (experiment, run)
        self._tables = frozenset(tables)
        self._traces = TraceBuilder(linger)

    def add(self, events: Iterable[Event]) -> None:
        """Insert these events, and the spans of all traces that are complete by now."""
        # Both tables together, in pieces: neither waits in memory for the other.
        read: list[Event] = []
        ended: list[Span] = []
        for event in events:
            if "events" in self._tables:
                read.append(event)
            if "spans" in self._tables:
                for trace in self._traces.add(event):
                    ended.extend(trace.walk())
            if len(read) >= span_table.ROWS or len(ended) >= span_table.ROWS:
                self._write(read, ended)
        self._write(read, ended)

    def open_traces(self) -> list[Trace]:
        """Return the traces that are not in ``spans`` yet, as they are now."""
        return self._traces.open()

    def finish(self) -> None:
        """Insert the spans of the traces that are still open: no more events come."""
        for trace in self._traces.rest():
            self._database.insert_spans(*self._of, trace.walk(), self._prices)

    def _write(self, events: list[Event], spans: list[Span]) -> None:
        self._database.insert_events(*self._of, events)
        self._database.insert_spans(*self._of, spans, self._prices)
        events.clear()
        spans.clear()
