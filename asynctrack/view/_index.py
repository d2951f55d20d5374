"""What pages ask: the tables of all Runs, those that are indexed and what has come since."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

from asynctrack._reading.extras import load
from asynctrack._reading.index.catalog import Catalog, RunFolder, State
from asynctrack._reading.index.columns import Row
from asynctrack._reading.index.tables import Tables, insert_rows
from asynctrack._reading.scratch import Scratch
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.trees.prices import Prices

from ._question import GivenUpError, asked

SEARCHES: Final = 16
"""Searches whose results are kept: the latest, which pages may still read."""
NAME: Final = 300
"""Characters of a name or a model in a list."""
# The database does not outlive the viewer: it need not survive a power failure, and no older DuckDB
# has to read it. It may grow larger than memory.
_SETTINGS: Final = {
    "memory_limit": "1GB",
    "threads": 2,
    "checkpoint_threshold": "64MB",
    "storage_compatibility_version": "latest",
}
_VIEWS: Final = {
    "traces": """
        SELECT _run AS run, _no AS no, trace_id, writer_id, name, outcome, cause, resumes,
            _chosen AS chosen, _start AS start, duration, session_id, user_id, thread_id, spans,
            errors, recovered, model_calls, input_tokens, output_tokens, cache_read_tokens,
            reasoning_tokens, cost, time_to_first_token AS first_token, _error AS error,
            _asks AS asks, _names AS names, models, tags, input, output, _input_key AS input_key,
            _output_key AS output_key, spooled, _words AS words
        FROM inside.traces
    """,
    "feedback": """
        SELECT experiment, run, epoch_ns(time) AS time, trace_id, span_id, name, score, value,
            comment, user_id
        FROM inside.feedback
    """,
    "spans": f"""
        SELECT _run AS run, _no AS no, _place AS place, _depth AS depth, span_id, parent_span_id,
            left(name, {NAME}) AS name, left(kind, {NAME}) AS kind, outcome, cause,
            _start AS start, _end AS "end", duration, self_time, left(model, {NAME}) AS model,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
            cost, time_to_first_token AS first_token, left(error_type, {NAME}) AS error_type,
            _error AS error, _hands_on AS hands_on,
            orphan, inputs, outputs, _exception AS exception, tags, metadata, attributes, data,
            _notes AS notes
        FROM inside.spans
    """,
}
"""The tables by the names that pages use; times in nanoseconds."""


class Index:
    """The tables. One thread writes, any number of threads read.

    Args:
        prices: What models cost.
        catalog: The index of this user; None takes the one of the environment.

    Raises:
        MissingExtraError: duckdb or pyarrow is not installed.
    """

    def __init__(self, prices: Prices | None = None, catalog: Catalog | None = None) -> None:
        self._duckdb = load("asynctrack view", "duckdb")
        load("asynctrack view", "pyarrow")
        self._folder = Scratch("view")
        self.path = self._folder.path
        self._catalog = catalog or Catalog()
        settings = {**_SETTINGS, "temp_directory": str(self.path / "tmp")}
        self._tables = Tables(prices, settings, self.path / "index.duckdb")
        self._connection = self._tables.connection
        self._connection.execute("CREATE SCHEMA pages")
        self._make_views()
        # Searches change nothing in the file: no question waits for a checkpoint.
        self._connection.execute("ATTACH ':memory:' AS found")
        self._reading: set[Any] = set()
        self._lock = threading.Lock()
        self._added = False
        self._closed = False
        self._searching = threading.Lock()
        self._matches: dict[tuple[tuple[int, ...], int, str], str] = {}
        self._numbers = count()

    def folder(self, found: Found) -> RunFolder:
        """Return a Run's folder in the index of this user; what is in it stays until ``close``.
        Blocks.
        """
        return self._catalog.folder(found)

    def add(self, folder: RunFolder, state: State) -> None:
        """Take what is indexed of a Run. Blocks."""
        with self._lock:
            self._tables.add_files(folder.path, state)
            self._added = True
        self._tables.add_costs()

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
                for table in ("traces", "spans"):
                    cursor.execute(
                        f"DELETE FROM inside.live_{table} WHERE _no IN (SELECT unnest(?))",
                        [replaced],
                    )
            insert_rows(cursor, "traces", traces)
            insert_rows(cursor, "spans", list(spans))
            cursor.commit()
        finally:
            cursor.close()

    def write_feedback(self, rows: Sequence[Row]) -> None:
        """Write what was said of traces since they were indexed."""
        cursor = self._connection.cursor()
        try:
            insert_rows(cursor, "feedback", rows)
        finally:
            cursor.close()

    def delivered(self, numbers: Sequence[int]) -> None:
        """Remove the mark from traces that have no events in the spool any more."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(
                "UPDATE inside.live_traces SET spooled = false WHERE _no IN (SELECT unnest(?))",
                [numbers],
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

    def matches(
        self, runs: Sequence[int], version: int, text: str, sql: str, values: dict[str, Any]
    ) -> str:
        """Return a table with the numbers of some Runs' traces that contain a text. Blocks.

        It is made once for each text and version of the Runs: the list of a page, its numbers and
        its charts are asked for at the same time, and reading all texts is what takes time.

        Args:
            runs: The Runs' numbers.
            version: Their version.
            text: What is searched for.
            sql: The query for these numbers.
            values: Its values.
        """
        key = (tuple(runs), version, text)
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
            if self._added:  # once for all Runs that came since the last question
                self._make_views()
                self._added = False
            cursor = self._connection.cursor()
            cursor.execute("SET search_path = 'pages'")
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
        self._catalog.close()
        self._catalog.trim()
        self._folder.close()

    def _make_views(self) -> None:
        self._tables.make_views()
        for name, rows in _VIEWS.items():
            self._connection.execute(f"CREATE OR REPLACE VIEW pages.{name} AS {rows}")
