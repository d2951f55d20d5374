"""Pieces: Parquet files with rows of a table, written once and never changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from asynctrack._reading.extras import load
from asynctrack._reading.index.columns import TABLES, Columns, Row

ROWS: Final = 5_000
"""Rows that become columns at a time, and the rows of a row group: DuckDB skips whole ones, and
two threads share them."""
CHARACTERS: Final = 32_000_000
"""Characters of text in them at most, but for a single row."""
_LONG: Final = frozenset(
    {
        "inputs", "outputs", "metadata", "attributes", "data", "error", "error_message", "comment",
        "input", "output", "_words", "_exception", "_notes", "_asks", "_error", "_hands_on",
    }
)  # fmt: skip
"""Columns whose texts hardly come twice: a dictionary of them is no use."""
_TEXTS: Final = frozenset({"text"})


def schema_of(pyarrow: Any, columns: Columns) -> Any:
    """Return the ``pyarrow.Schema`` of columns; times are in microseconds, as DuckDB has them."""
    types = {
        "text": pyarrow.string(),
        "texts": pyarrow.list_(pyarrow.string()),
        "time": pyarrow.timestamp("us", tz="UTC"),
        "number": pyarrow.float64(),
        "count": pyarrow.int64(),
        "truth": pyarrow.bool_(),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind in columns])


def table_of(pyarrow: Any, columns: Columns, rows: Sequence[Row]) -> Any:
    """Return rows as a ``pyarrow.Table``."""
    schema = schema_of(pyarrow, columns)
    taken: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = []
    for values, field, (_, kind) in zip(taken, schema, columns, strict=True):
        if kind == "time":
            values = [None if value is None else value // 1000 for value in values]
        arrays.append(pyarrow.array(values, field.type))
    return pyarrow.Table.from_arrays(arrays, schema=schema)


class Piece:
    """A Parquet file that is being written, in a thread of its own.

    Args:
        path: The file; only its owner may read it.
        table: Which table's rows it gets.
        pool: Runs the writing; one thread, so that row groups come in order.

    Attributes:
        rows: How many were added.
        bytes: Its size, in bytes, once it is closed.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path, table: str, pool: ThreadPoolExecutor) -> None:
        self._pyarrow = load("the index", "pyarrow")
        self._columns = TABLES[table]
        self._path = path
        self._pool = pool
        self._held: list[Row] = []
        self._characters = 0
        self._writer: Any = None
        self._writing: Future[None] | None = None
        self.rows = 0
        self.bytes = 0

    def add(self, rows: Iterable[Row], characters: int) -> None:
        """Add rows.

        Args:
            rows: The rows.
            characters: About how much text is in them.
        """
        before = len(self._held)
        self._held.extend(rows)
        self.rows += len(self._held) - before
        self._characters += characters
        if len(self._held) >= ROWS or self._characters >= CHARACTERS:
            self._write()

    def add_table(self, table: Any) -> None:
        """Add a ``pyarrow.Table`` with rows of another piece, as one row group."""
        self.rows += len(table)
        self._wait()
        self._writing = self._pool.submit(self._write_table, table)

    def close(self) -> bool:
        """Write what is left; return whether there is a file at all."""
        if self._held:
            self._write()
        self._wait()
        if self._writer is None:
            return False
        self._writer.close()
        self.bytes = self._path.stat().st_size
        return True

    def _write(self) -> None:
        rows, self._held, self._characters = self._held, [], 0
        table = table_of(self._pyarrow, self._columns, rows)
        self._wait()  # one group at a time is in memory twice
        self._writing = self._pool.submit(self._write_table, table)

    def _write_table(self, table: Any) -> None:
        if self._writer is None:
            from pyarrow import parquet

            self._path.unlink(missing_ok=True)  # of a process that was killed
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._writer = parquet.ParquetWriter(
                self._path,
                table.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[name for name, _ in self._columns if name not in _LONG],
                write_statistics=[name for name, _ in self._columns if name not in _LONG],
            )
        self._writer.write_table(table, row_group_size=len(table))

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None
