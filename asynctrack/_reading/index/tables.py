"""The tables of Runs in DuckDB: views of the index, and what is not in it yet.

Everything is read through the verified, folded stream of events that ``open_run`` reads, so a table
is the same for a folder and for S3, and an event that is stored twice is one row. It needs no
extension of DuckDB, not even httpfs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from asynctrack._common.period import ALL, Period
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.extras import load
from asynctrack._reading.index.catalog import Catalog, Layer, State, files_of, with_layer
from asynctrack._reading.index.columns import TABLES, Columns, Row
from asynctrack._reading.index.filler import EVENTS, TRACES, Filler
from asynctrack._reading.index.pieces import table_of
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import Report
from asynctrack._reading.sources.spool import Spool
from asynctrack._reading.trees.prices import MILLION, Prices

SQL_TYPES: Final = {
    "text": "VARCHAR",
    "texts": "VARCHAR[]",
    "time": "TIMESTAMPTZ",
    "number": "DOUBLE",
    "count": "BIGINT",
    "truth": "BOOLEAN",
}
"""What each type of a column is in DuckDB."""
CONFIG: Final = {
    # DuckDB fetches nothing from the network and reads no variables of Python.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
_LAYERS: Final = {"spans": TRACES, "traces": TRACES, "feedback": TRACES, "events": EVENTS}

Progress = Callable[[int], None]
"""Called with how many events were read since the last call."""


class Indexed(Protocol):
    """What the index reads: a ``RecordedRun``."""

    prices: Prices | None
    report: Report
    found: Found
    spool: Spool

    @property
    def experiment(self) -> str:
        """The experiment's name."""

    @property
    def name(self) -> str:
        """The Run's name."""

    @property
    def sets_aside(self) -> bool:
        """Whether it is read on without objects that are not what their manifest lists."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters."""


class Tables:
    """A connection to DuckDB with the tables of some Runs. Made by ``open_tables``.

    Every table is there in two forms: as ``spans``, with the columns that users see, and as
    ``inside.spans``, with all of them.

    Args:
        prices: What models cost; None leaves the columns ``cost`` empty.
        settings: Of DuckDB, besides those that keep it from the network.
        path: A file for what is in no piece; None keeps it in memory.

    Attributes:
        connection: The connection; its time zone is UTC.
        read: How many events are in them, by the layer of the index that they were read for.

    Raises:
        MissingExtraError: duckdb is not installed.
    """

    def __init__(
        self,
        prices: Prices | None = None,
        settings: Mapping[str, Any] | None = None,
        path: Path | None = None,
    ) -> None:
        duckdb = load("this question", "duckdb")
        self._prices = prices
        config = {**CONFIG, **(settings or {})}
        self.connection = duckdb.connect(":memory:" if path is None else str(path), config=config)
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute("CREATE SCHEMA inside")
        self.read: Counter[str] = Counter()
        self._files: dict[str, list[Path]] = {table: [] for table in TABLES}
        for table, columns in TABLES.items():
            fields = ", ".join(f'"{name}" {SQL_TYPES[kind]}' for name, kind in columns)
            self.connection.execute(f"CREATE TABLE inside.live_{table} ({fields})")
        self._make_rates()
        self._unpriced: list[Path] = []

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def rows(
        self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """Return the rows of a statement, by column. Blocks.

        Args:
            sql: The statement; nothing that was logged or asked for is ever part of it.
            values: Its values.
        """
        cursor = self.connection.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def add_files(self, folder: Path, state: State) -> None:
        """Take the pieces of a Run."""
        for table, names in files_of(state, list(TABLES)).items():
            paths = [folder / name for name in names]
            self._files[table] += paths
            if table == "spans":
                self._unpriced += paths

    def add_rows(self, table: str, rows: Sequence[Row], _: int = 0) -> None:
        """Take rows that are in no piece."""
        insert_rows(self.connection, table, rows)

    def add_parameters(self, experiment: str, run: str, parameters: Mapping[str, Any]) -> None:
        """Take a Run's parameters."""
        rows = [(experiment, run, name, json_text(value)) for name, value in parameters.items()]
        if rows:
            insert = "INSERT INTO inside.live_parameters VALUES (?, ?, ?, ?)"
            self.connection.executemany(insert, rows)

    def add_costs(self) -> None:
        """Work out what the traces cost in the files that were taken; ``make_views`` does it, too,
        but that others may wait for."""
        unpriced, self._unpriced = self._unpriced, []
        if self._prices and unpriced:
            with self.connection.cursor() as cursor:  # another thread may ask meanwhile
                cursor.execute(f"INSERT INTO inside.stored_costs {_costs(_read(unpriced))}")

    def make_views(self, period: Period = ALL) -> None:
        """Make the tables of what was taken; again, after more files were.

        Args:
            period: Traces that started then, with their spans; events and feedback of that time.
        """
        execute = self.connection.execute
        self.add_costs()
        costs = "FROM inside.stored_costs"
        if self._prices:
            costs += f" UNION ALL {_costs('SELECT * FROM inside.live_spans')}"
        execute(f"CREATE OR REPLACE VIEW inside.costs AS {costs}")
        for table in TABLES:
            rows = f"SELECT * FROM inside.live_{table}"
            if self._files[table]:
                rows = f"{_read(self._files[table])} UNION ALL {rows}"
            execute(f"CREATE OR REPLACE VIEW inside.all_{table} AS {rows}")
        for table in TABLES:
            rows = f"SELECT * FROM inside.all_{table}"
            if table == "spans":
                rows = _spans("FROM inside.all_spans", self._prices)
            elif table == "traces":
                rows = _TRACES
            elif table == "events":
                rows = _EVENTS
            rows += _narrowed(table, period)
            execute(f"CREATE OR REPLACE VIEW inside.{table} AS {rows}")
            execute(f"CREATE OR REPLACE VIEW {table} AS SELECT {_shown(table)} FROM inside.{table}")

    def lock(self) -> None:
        """Let statements read these tables only: no other file, and nothing of the network."""
        paths = [str(path) for files in self._files.values() for path in files]
        quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        self.connection.execute(f"SET allowed_paths = [{quoted}]")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def _make_rates(self) -> None:
        self.connection.execute(
            "CREATE TABLE inside.rates (model VARCHAR, read DOUBLE, written DOUBLE,"
            " cache_read DOUBLE, cache_write DOUBLE, heard DOUBLE, spoken DOUBLE)"
        )
        self.connection.execute("CREATE TABLE inside.stored_costs (_no BIGINT, cost DOUBLE)")
        rows = [
            (model, one.read, one.written, one.cache_read, one.cache_write, one.audio_read,
             one.audio_written)
            for model, one in (self._prices or {}).items()
        ]  # fmt: skip
        if rows:
            insert = "INSERT INTO inside.rates VALUES (?, ?, ?, ?, ?, ?, ?)"
            self.connection.executemany(insert, rows)


def insert_rows(connection: Any, table: str, rows: Sequence[Row]) -> None:
    """Insert rows that are in no piece, by a connection or a cursor to ``Tables``."""
    new = table_of(load("this question", "pyarrow"), TABLES[table], rows)
    connection.register("_new", new)
    try:
        connection.execute(f"INSERT INTO inside.live_{table} SELECT * FROM _new")
    finally:
        connection.unregister("_new")


@contextmanager
def open_tables(
    runs: Iterable[Indexed],
    tables: Iterable[str] = TABLES,
    *,
    asked_by: str = "this question",
    period: Period = ALL,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
    first: Callable[[], None] = lambda: None,
) -> Iterator[Tables]:
    """Bring the index of Runs up to date, and open their tables.

    Args:
        runs: The Runs; each row has their names in ``experiment`` and ``run``. Their prices make
            the column ``cost``: the first ones that are given count for all.
        tables: Which tables are wanted; the others may be empty.
        asked_by: What needs them, for the error where a package is not installed.
        period: As for ``Tables.make_views``.
        progress: Called with how many events were read.
        settings: As for ``Tables``.
        first: Called before any events are read, which may take long.

    Raises:
        MissingExtraError: duckdb or pyarrow is not installed.
        ChecksumError: As ``RecordedRun.events``.
        ReadError: As ``RecordedRun.events``.
        BackendError: As ``RecordedRun.events``.
    """
    wanted = frozenset(tables)
    layers = {_LAYERS[table] for table in wanted if table in _LAYERS}
    if "events" in wanted:
        layers.add(TRACES)  # their sessions
    load(asked_by, "duckdb")
    if find_spec("pyarrow") is None:  # imported once rows are written: it takes its time
        load(asked_by, "pyarrow")
    runs = list(runs)
    prices = next((run.prices for run in runs if run.prices is not None), None)
    with ExitStack() as stack:
        catalog = stack.enter_context(Catalog())
        grown = False
        stack.callback(lambda: catalog.trim() if grown else None)
        opened = Tables(prices, settings)
        stack.callback(opened.close)
        for run in runs:
            if layers:
                folder = catalog.folder(run.found)
                state: State | None = None
                for layer in sorted(layers):
                    filler = Filler(
                        folder, run.found, layer, run.spool, run.report, set_aside=run.sets_aside
                    )
                    for events in filler.fill():
                        if not events:
                            grown = True
                            first()
                        elif progress is not None:
                            progress(events)
                    rest = filler.rest(opened.add_rows)
                    filled = filler.state.layers.get(layer, Layer())
                    opened.read[layer] += filled.events + rest
                    # As it was when each was read: another process may have gone on meanwhile.
                    state = with_layer(state or filler.state, layer, filled)
                if state is not None:
                    opened.add_files(folder.path, state)
            if "parameters" in wanted:
                opened.add_parameters(run.experiment, run.name, run.parameters)
        opened.make_views(period)
        yield opened


def shown_columns(table: str) -> Columns:
    """Return the columns of a table that users see, in their order."""
    columns = [one for one in TABLES[table] if not one[0].startswith("_")]
    after = {"spans": "audio_output_tokens", "traces": "reasoning_tokens"}.get(table)
    if after is not None:
        at = [name for name, _ in columns].index(after) + 1
        columns.insert(at, ("cost", "number"))
    if table == "events":
        columns += [("session_id", "text"), ("user_id", "text"), ("thread_id", "text")]
    return tuple(columns)


def _narrowed(table: str, period: Period) -> str:
    """Return what of a table is in a period: Parquet's statistics leave out the rest."""
    column = _MOMENTS.get(table)
    limits = {">=": period.since_ns, "<": period.until_ns}
    if column is None or not period:
        return ""
    asked = [f"{column} {sign} {at:d}" for sign, at in limits.items() if at is not None]
    if table == "spans":
        # By their traces. No span starts before its trace, so this leaves out whole row groups.
        traces = " AND ".join(asked)
        asked = [f"s._no IN (SELECT _no FROM inside.all_traces WHERE {traces})"]
        if period.since_ns is not None:
            asked.append(f"(s._start IS NULL OR s._start >= {period.since_ns:d})")
    return f" WHERE {' AND '.join(asked)}"


_MOMENTS: Final = {
    "spans": "_start",
    "traces": "_start",
    "events": "time_unix_nano",
    "feedback": "epoch_ns(time)",
}
"""The column of each table that tells its time."""


def _shown(table: str) -> str:
    return ", ".join(f'"{name}"' for name, _ in shown_columns(table))


_TRACES: Final = (
    "SELECT t.*, c.cost FROM inside.all_traces t LEFT JOIN inside.costs c ON c._no = t._no"
)
_EVENTS: Final = (
    "SELECT e.*, t.session_id, t.user_id, t.thread_id FROM inside.all_events e LEFT JOIN"
    " (SELECT writer_id, trace_id, any_value(session_id) AS session_id,"
    " any_value(user_id) AS user_id, any_value(thread_id) AS thread_id FROM inside.all_traces"
    " GROUP BY writer_id, trace_id) t USING (writer_id, trace_id)"
)
"""Events with the sessions of their traces."""


def _read(paths: Iterable[Path]) -> str:
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    # No column comes of the user's folder, if it is called ``env=prod``.
    return f"SELECT * FROM read_parquet([{listed}], hive_partitioning = false)"


def _costs(spans: str) -> str:
    """Return a query for what the model calls of each trace cost."""
    priced = _spans(spans, {})
    return (
        f"SELECT _no, sum(cost) AS cost FROM ({priced})"
        " WHERE cost IS NOT NULL AND kind IN ('llm', 'chat_model') GROUP BY _no"
    )


def _spans(spans: str, prices: Prices | None) -> str:
    """Return a query for spans with what they cost."""
    if prices is None:
        return f"SELECT *, NULL::DOUBLE AS cost FROM ({spans}) s"
    # As ``cost_of``: the model that answered counts if it has a price, else the requested one.
    rate = {
        name: f"if(answered.model IS NULL, asked.{name}, answered.{name})"
        for name in ("read", "written", "cache_read", "cache_write", "heard", "spoken")
    }
    read, written, stored_read, stored_write, heard, spoken = (
        f"coalesce(s.{name}, 0)"
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
                     "audio_input_tokens", "audio_output_tokens")
    )  # fmt: skip
    cost = (
        f"CASE WHEN s.input_tokens IS NULL AND s.output_tokens IS NULL THEN NULL"
        f" WHEN ({heard} > 0 AND {rate['heard']} IS NULL)"
        f" OR ({spoken} > 0 AND {rate['spoken']} IS NULL) THEN NULL ELSE ("
        f"greatest(0, {read} - {stored_read} - {stored_write} - {heard}) * {rate['read']}"
        f" + {stored_read} * {rate['cache_read']} + {stored_write} * {rate['cache_write']}"
        f" + {heard} * coalesce({rate['heard']}, 0)"
        f" + greatest(0, {written} - {spoken}) * {rate['written']}"
        f" + {spoken} * coalesce({rate['spoken']}, 0)) / {MILLION} END"
    )
    return (
        f"SELECT s.*, {cost} AS cost FROM ({spans}) s"
        " LEFT JOIN inside.rates answered ON answered.model = s._answered_by"
        " LEFT JOIN inside.rates asked ON asked.model = s.model"
    )
