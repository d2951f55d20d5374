"""Events or spans as rows: Parquet, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, Final

from asynctrack._reading.decoding.events import Event, json_text
from asynctrack._reading.export.cells import safe_cell
from asynctrack._reading.extras import load
from asynctrack._reading.run import RecordedRun
from asynctrack._reading.tables import span_table

GROUP_ROWS: Final = 10_000
GROUP_BYTES: Final = 16_000_000
"""Rows and bytes of a row group of a Parquet file: whichever comes first."""


def write_parquet(run: RecordedRun, columns: Any, items: Iterator[Any], out: io.RawIOBase) -> int:
    """Write a Parquet file; return how many rows it has."""
    pyarrow = load("asynctrack export --format parquet", "pyarrow")
    parquet = load("asynctrack export --format parquet", "pyarrow.parquet")
    named = _named(run, columns)
    rows = 0
    with parquet.ParquetWriter(
        out, span_table.schema_of(pyarrow, named), compression="zstd"
    ) as writer:
        group: list[Any] = []
        for batch in span_table.record_batches(pyarrow, named, items):
            group.append(batch)
            rows += batch.num_rows
            if (
                sum(one.num_rows for one in group) >= GROUP_ROWS
                or sum(one.nbytes for one in group) >= GROUP_BYTES
            ):
                writer.write_table(pyarrow.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_batches(group))
    return rows


def write_jsonl(run: RecordedRun, columns: Any, items: Iterator[Any], out: io.RawIOBase) -> int:
    """Write one JSON object a line; return how many rows it has."""
    rows = 0
    for item in items:
        if isinstance(item, Event):
            line = json_text(item.raw)  # as it was stored
        else:
            line = json_text(_span_object(run, columns, item))
        out.write(f"{line}\n".encode())
        rows += 1
    return rows


def _span_object(run: RecordedRun, columns: Any, of: span_table.Spanned) -> dict[str, Any]:
    span = of.span
    payloads = {
        "inputs": span.inputs,
        "outputs": span.outputs,
        "metadata": dict(span.metadata),
        "attributes": dict(span.attributes),
        "data": dict(span.data),
    }
    return {
        "experiment": run.experiment,
        "run": run.name,
        **{name: payloads[name] if name in payloads else take(of) for name, _, take in columns},
    }


def write_csv(run: RecordedRun, columns: Any, items: Iterator[Any], out: io.RawIOBase) -> int:
    """Write CSV that a spreadsheet shows as text; return how many rows it has."""
    named = _named(run, columns)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([name for name, _, _ in named])
    rows = 0
    for item in items:
        writer.writerow([_cell(kind, take(item)) for _, kind, take in named])
        rows += 1
        if buffer.tell() > 256_000:
            _drain(buffer, out)
    _drain(buffer, out)
    return rows


def _drain(buffer: io.StringIO, out: io.RawIOBase) -> None:
    out.write(buffer.getvalue().encode())
    buffer.seek(0)
    buffer.truncate()


def _cell(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if kind == "time":
        return span_table.time_text(value)
    if kind == "texts":
        return json_text(value) or ""
    # NUL ends a cell for some readers, and others reject it.
    return safe_cell(str(value).replace("\0", "\\0")) if kind == "text" else str(value)


def _named(run: RecordedRun, columns: Any) -> tuple[span_table.Column, ...]:
    return (
        ("experiment", "text", lambda _: run.experiment),
        ("run", "text", lambda _: run.name),
        *columns,
    )
