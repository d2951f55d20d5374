"""SQL over Runs: read what a statement names into a new database, then answer read-only.

The user trusts the statement, but not what it reads: so DuckDB touches no file and no network,
loads no extension, and the statement cannot change that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._errors import AsynctrackError
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.extras import load
from asynctrack._reading.run import RecordedRun
from asynctrack._reading.scratch import Scratch
from asynctrack._reading.tables import span_table
from asynctrack._reading.tables.database import CONFIG, TABLES, Database, Feed, Progress

ROWS: Final = 2_000
"""Rows of an answer that are in memory at a time."""
FILL: Final = {"memory_limit": "128MB", "threads": 1}
"""What DuckDB may hold while the tables are filled; the rest is in the file. Each thread takes more
memory, and one is enough: reading the Runs takes longer."""
ANSWER: Final = {"memory_limit": "1GB"}
"""What it may hold while it answers; the rest is spilled to disk."""
ALLOWED: Final = ("SELECT", "EXPLAIN")
"""Kinds of statements; ``FROM``, ``WITH``, ``DESCRIBE``, ``SUMMARIZE``, ``SHOW`` are SELECTs."""


class QueryError(AsynctrackError, ValueError):
    """The statement cannot be answered; the text is DuckDB's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a statement.

    Attributes:
        columns: The columns' names.
        types: Their types, as Arrow calls them.
        rows: The rows, as a stream; may be taken once, and while the database is open.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def query(
    runs: Iterable[RecordedRun], sql: str, progress: Progress | None = None
) -> Iterator[Answer]:
    """Answer a statement over the tables ``spans``, ``events`` and ``parameters`` of Runs.

    Args:
        runs: The Runs; each table has their names in ``experiment`` and ``run``.
        sql: One statement that reads.
        progress: Called with how many events were read.

    Raises:
        QueryError: The statement is wrong, is not one, or does not only read.
        MissingExtraError: duckdb or pyarrow is not installed.
        ChecksumError: As ``RecordedRun.events``.
        ReadError: As ``RecordedRun.events``.
        BackendError: As ``RecordedRun.events``.
    """
    duckdb = load("asynctrack query", "duckdb")
    load("asynctrack query", "pyarrow")
    _check(duckdb, sql)
    with Scratch("query") as folder:
        path = folder / "runs.duckdb"
        spill = {"temp_directory": str(folder / "spill")}
        with Database(path, {**spill, **FILL}) as database:
            wanted = tables_in(sql)
            for run in runs:
                add_run(database, run, wanted, progress)
        connection = duckdb.connect(str(path), read_only=True, config={**CONFIG, **spill, **ANSWER})
        try:
            for statement in (
                "SET TimeZone = 'UTC'",
                "SET enable_external_access = false",
                "SET lock_configuration = true",
            ):
                connection.execute(statement)
            yield _answer(duckdb, connection, sql)
        finally:
            connection.close()


def add_run(
    database: Database,
    run: RecordedRun,
    tables: Iterable[str] = TABLES,
    progress: Progress | None = None,
) -> None:
    """Read a Run and put it into tables. Each piece is committed by itself.

    Args:
        database: The database.
        run: The Run; its events are read once, and not at all for ``parameters`` alone.
        tables: Which tables are filled.
        progress: Called with how many events were read.

    Raises:
        ChecksumError: As ``RecordedRun.events``.
        ReadError: As ``RecordedRun.events``.
        BackendError: As ``RecordedRun.events``.
    """
    wanted = frozenset(tables)
    if wanted & {"spans", "events"}:
        feed = Feed(database, run.experiment, run.name, wanted, prices=run.prices)
        with closing(run.events()) as events:  # type: ignore[type-var]  # a generator
            feed.add(_counted(events, progress))
        feed.finish()
    if "parameters" in wanted:
        database.add_parameters(run.experiment, run.name, run.parameters)


def tables_in(sql: str) -> tuple[str, ...]:
    """Return the tables a statement may read: those whose names occur in it at all."""
    text = sql.lower()
    return tuple(name for name in TABLES if name in text)


def _check(duckdb: Any, sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    if len(statements) != 1:
        raise QueryError(f"one statement is wanted, and these are {len(statements)}")
    kind = statements[0].type.name
    if kind not in ALLOWED:
        raise QueryError(
            f"{kind} is not allowed: the tables are made anew for each query, and only read."
            " Begin with SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN"
        )
    if kind == "SELECT":
        # Fail on a wrong statement before reading anything.
        with Database() as empty:
            empty.connection.execute("SET enable_external_access = false")
            try:
                empty.connection.sql(sql)
            except duckdb.Error as error:
                raise QueryError(str(error)) from error


def _answer(duckdb: Any, connection: Any, sql: str) -> Answer:
    try:
        relation = connection.sql(sql)
        # DuckDB 1 has another name for it.
        reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
        batches = reader(ROWS)
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    schema = batches.schema
    return Answer(tuple(schema.names), tuple(map(str, schema.types)), _rows(duckdb, batches))


def _rows(duckdb: Any, batches: Any) -> Iterator[tuple[Any, ...]]:
    try:
        for batch in batches:
            # By position: names may occur twice.
            columns = [column.to_pylist() for column in batch.columns]
            yield from zip(*columns, strict=True)
    except (duckdb.Error, OSError, ValueError) as error:  # Arrow has its own for the same
        raise QueryError(str(error)) from error


def _counted(events: Iterator[Event], progress: Progress | None) -> Iterator[Event]:
    if progress is None:
        yield from events
        return
    since = 0
    for event in events:
        yield event
        since += 1
        if since == span_table.ROWS:
            progress(since)
            since = 0
    progress(since)
