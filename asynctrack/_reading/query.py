"""SQL over Runs: bring the index up to date, then answer read-only.

The user trusts the statement, but not what it reads: so DuckDB touches no file and no network,
loads no extension, and the statement cannot change that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._common.nearest import did_you_mean
from asynctrack._common.period import ALL, Period
from asynctrack._errors import AsynctrackError
from asynctrack._reading.extras import load
from asynctrack._reading.index.columns import TABLES
from asynctrack._reading.index.tables import (
    CONFIG,
    SQL_TYPES,
    Indexed,
    Progress,
    open_tables,
    shown_columns,
)
from asynctrack._reading.scratch import Scratch

ROWS: Final = 2_000
"""Rows of an answer that are in memory at a time."""
ANSWER: Final = {"memory_limit": "1GB"}
"""What DuckDB may hold while it answers; the rest is spilled to disk."""
ALLOWED: Final = ("SELECT", "EXPLAIN")
"""Kinds of statements; ``FROM``, ``WITH``, ``DESCRIBE``, ``SUMMARIZE``, ``SHOW`` are SELECTs."""


_DESCRIBES: Final = re.compile(r"\s*(?:DESCRIBE|DESC|SHOW)\s+\w+\s*;?\s*\Z", re.IGNORECASE)
"""What asks for the columns of a table, or for the tables."""


_NO_TABLE: Final = re.compile(r"Table with name (\S+) does not exist!(?:\n?Did you mean .*)?")
_NO_COLUMN: Final = re.compile(
    r"Referenced column|does not have a column|list not found in FROM|side of join"
)
"""What DuckDB says of a name that it does not know."""


class QueryError(AsynctrackError, ValueError):
    """The statement cannot be answered; the text is DuckDB's, and what was meant."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a statement.

    Attributes:
        columns: The columns' names.
        types: Their types, as DuckDB calls them.
        rows: The rows, as a stream; may be taken once, and while the database is open.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def query(
    runs: Iterable[Indexed], sql: str, progress: Progress | None = None, period: Period = ALL
) -> Iterator[Answer]:
    """Answer a statement over the tables ``spans``, ``traces``, ``events``, ``feedback`` and
    ``parameters`` of Runs.

    Args:
        runs: The Runs; each table has their names in ``experiment`` and ``run``.
        sql: One statement that reads.
        progress: Called with how many events were read.
        period: The tables hold only traces that started then, with their spans, and events and
            feedback of that time.

    Raises:
        QueryError: The statement is wrong, is not one, or does not only read.
        MissingExtraError: duckdb or pyarrow is not installed.
        ChecksumError: As ``RecordedRun.events``.
        ReadError: As ``RecordedRun.events``.
        BackendError: As ``RecordedRun.events``.
    """
    duckdb = load("asynctrack query", "duckdb")
    described = _check(duckdb, sql)

    def bind() -> None:
        """Fail on a wrong statement before anything is read."""
        with duckdb.connect(":memory:", config=CONFIG) as empty:
            for table in TABLES:
                fields = ", ".join(
                    f'"{name}" {SQL_TYPES[kind]}' for name, kind in shown_columns(table)
                )
                empty.execute(f"CREATE TABLE {table} ({fields})")
            empty.execute("SET enable_external_access = false")
            try:
                empty.sql(sql)
            except duckdb.Error as error:
                raise QueryError(_said(error)) from error

    with Scratch("query") as folder:
        settings = {"temp_directory": str(folder / "spill"), **ANSWER}
        # What only asks for columns and types reads nothing.
        read = () if described else runs
        with open_tables(
            read, tables_in(sql), asked_by="asynctrack query", period=period, progress=progress,
            settings=settings, first=bind,
        ) as tables:  # fmt: skip
            tables.lock()
            yield _answer(duckdb, tables.connection, sql)


def _said(error: Exception) -> str:
    """Return what DuckDB says; of a table that is not there, with ours instead of its own ones."""
    text = str(error)
    if _NO_TABLE.search(text):
        return _NO_TABLE.sub(_no_table, text, count=1)
    if _NO_COLUMN.search(text):
        more = "DESCRIBE spans lists the columns of spans. Texts take quotes: 'x'"
        return f"{text.rstrip()}\n{more}"
    return text


def _no_table(found: re.Match[str]) -> str:
    near = did_you_mean(found[1].strip('"'), TABLES)
    more = f"; {near}" if near else ". "
    return f"Table with name {found[1]} does not exist{more}The tables are {', '.join(TABLES)}"


def tables_in(sql: str) -> tuple[str, ...]:
    """Return the tables a statement may read: those whose names occur in it at all."""
    text = sql.lower()
    return tuple(name for name in TABLES if name in text)


def _check(duckdb: Any, sql: str) -> bool:
    """Fail on what is not one statement that reads; tell whether it asks for columns only."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_said(error)) from error
    if len(statements) != 1:
        raise QueryError(f"one statement is wanted, and these are {len(statements)}")
    kind = statements[0].type.name
    if kind not in ALLOWED:
        raise QueryError(
            f"{kind} is not allowed: the tables are made of what is stored, and only read."
            " Begin with SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN"
        )
    return _DESCRIBES.match(sql) is not None


def _answer(duckdb: Any, connection: Any, sql: str) -> Answer:
    try:
        answered = connection.execute(sql)
    except duckdb.Error as error:
        raise QueryError(_said(error)) from error
    columns = answered.description
    names = tuple(str(column[0]) for column in columns)
    return Answer(names, tuple(str(column[1]) for column in columns), _rows(duckdb, answered))


def _rows(duckdb: Any, answered: Any) -> Iterator[tuple[Any, ...]]:
    try:
        while rows := answered.fetchmany(ROWS):
            yield from rows
    except (duckdb.Error, OSError, ValueError) as error:  # Python cannot hold every date
        raise QueryError(_said(error)) from error
