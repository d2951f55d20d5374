"""The index: a DuckDB database in a folder of its own, with a row for each trace and each span."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import count
from operator import itemgetter
from typing import Any, Final

from asynctrack._reading.extras import load
from asynctrack._reading.scratch import Scratch
from asynctrack._reading.tables import span_table
from asynctrack._reading.tables.database import CONFIG

from ._question import GivenUpError, asked
from ._rows import SPAN_COLUMNS, TRACE_COLUMNS, Row

_TABLES: Final = {"traces": TRACE_COLUMNS, "spans": SPAN_COLUMNS}
_COLUMNS: Final[dict[str, tuple[span_table.Column, ...]]] = {
    table: tuple((name, kind, itemgetter(n)) for n, (name, kind) in enumerate(columns))
    for table, columns in _TABLES.items()
}
_PACKED: Final = {"payload": " USING COMPRESSION zstd"}
"""The columns that DuckDB would not pack, and that take most of the room."""
SEARCHES: Final = 16
"""Searches whose results are kept: the latest, which pages may still read."""
# The database does not outlive the viewer: it need not survive a power failure, and no older DuckDB
# has to read it. It may grow larger than memory.
_SETTINGS: Final = {
    "memory_limit": "1GB",
    "threads": 2,
    "checkpoint_threshold": "64MB",
    "storage_compatibility_version": "latest",
}


class Index:
    """The database. One thread writes, any number of threads read.

    The folder is only for this user, and is removed by ``close``.

    Raises:
        MissingExtraError: duckdb or pyarrow is not installed.
    """

    def __init__(self) -> None:
        self._duckdb = duckdb = load("asynctrack view", "duckdb")
        self._pyarrow = load("asynctrack view", "pyarrow")
        self._folder = Scratch("view")
        self.path = self._folder.path
        settings = {**CONFIG, **_SETTINGS, "temp_directory": str(self.path / "tmp")}
        self._connection = duckdb.connect(str(self.path / "index.duckdb"), config=settings)
        for table, columns in _TABLES.items():
            fields = ", ".join(
                f'"{name}" {span_table.SQL_TYPES[kind]}{_PACKED.get(name, "")}'
                for name, kind in columns
            )
            self._connection.execute(f"CREATE TABLE {table} ({fields})")
        # Searches change nothing in the file: no question waits for a checkpoint.
        self._connection.execute("ATTACH ':memory:' AS found")
        self._reading: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._searching = threading.Lock()
        self._matches: dict[tuple[int, int, str], str] = {}
        self._numbers = count()

    def write(
        self, traces: Sequence[Row], spans: Iterable[Row], replaced: Sequence[int] = ()
    ) -> None:
        """Write traces and their spans, all or nothing.

        Args:
            traces: Rows of traces.
            spans: Rows of their spans.
            replaced: The numbers of those traces that have been written before.
        """
        cursor = self._connection.cursor()
        try:
            cursor.begin()
            if replaced:
                for table in _TABLES:
                    cursor.execute(
                        f"DELETE FROM {table} WHERE no IN (SELECT unnest(?))", [replaced]
                    )  # our own names
            for table, rows in (("traces", traces), ("spans", spans)):
                for batch in span_table.record_batches(self._pyarrow, _COLUMNS[table], rows):
                    cursor.register("new_rows", self._pyarrow.Table.from_batches([batch]))
                    cursor.execute(f"INSERT INTO {table} SELECT * FROM new_rows")
                    cursor.unregister("new_rows")
            cursor.commit()
        finally:
            cursor.close()

    def delivered(self, numbers: Sequence[int]) -> None:
        """Remove the mark from traces that have no events in the spool any more."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(
                "UPDATE traces SET spooled = false WHERE no IN (SELECT unnest(?))", [numbers]
            )
        finally:
            cursor.close()

    def tidy(self) -> None:
        """Pack what was written last, now rather than while a page waits. Blocks."""
        cursor = self._connection.cursor()
        try:
            cursor.execute("CHECKPOINT")
        except self._duckdb.TransactionException:
            pass  # a reader is active: packed later
        finally:
            cursor.close()

    def matches(self, run: int, version: int, text: str, sql: str, values: dict[str, Any]) -> str:
        """Return a table with the numbers of a Run's traces that contain a text. Blocks.

        It is made once for each text and version of a Run: the list of a page, its numbers and its
        charts are asked for at the same time, and reading all texts is what takes time.

        Args:
            run: The Run's number.
            version: Its version.
            text: What is searched for.
            sql: The query for these numbers.
            values: Its values.
        """
        key = (run, version, text)
        with self._searching:
            if key not in self._matches:
                name = f"found.matches_{next(self._numbers)}"
                self.query(f"CREATE TABLE {name} AS {sql}", values)
                self._matches[key] = name
            while len(self._matches) > SEARCHES:
                oldest = next(iter(self._matches))
                self.query(f"DROP TABLE IF EXISTS {self._matches[oldest]}")
                del self._matches[oldest]
            return self._matches[key]

    def query(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query, by column. Blocks; each call has a cursor of its own.

        Args:
            sql: The query; nothing that was logged or asked for is ever part of it.
            values: Its values.

        Raises:
            GivenUpError: Nobody waits any more for the answer to the question it belongs to.
        """
        question = asked()
        with self._lock:
            if self._closed:
                return []
            cursor = self._connection.cursor()
            self._reading.add(cursor)
        try:
            if question is not None:
                question.begin(cursor)
            cursor.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except self._duckdb.InterruptException as error:
            raise GivenUpError from error
        finally:
            if question is not None:
                question.end(cursor)
            with self._lock:
                self._reading.discard(cursor)
            cursor.close()

    def close(self) -> None:
        """Stop queries, close the database and remove its folder."""
        with self._lock:
            self._closed = True
            for cursor in self._reading:
                cursor.interrupt()
        self._connection.close()
        self._folder.close()
