"""``asynctrack query``: SQL over one Run, or all Runs of a place."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from asynctrack._reading.export.cells import safe_cell

from ._common import (
    Missing,
    add_command,
    add_json_option,
    add_period_options,
    add_prices_option,
    add_source_options,
    period_of,
    plain,
)
from ._runs import PLACE_HELP, add_damaged_option, named_runs, say_set_aside

LIMIT = 100
CELL = 200
"""Rows, and characters of a cell, that a table shows."""

_DESCRIPTION = (
    "The tables are traces (a row for each call from outside), spans (a row for each call in them),"
    " events (a row for each callback), feedback and parameters;"
    " each begins with experiment and run. DESCRIBE spans lists a table's columns; payloads are"
    " JSON text: inputs->>'topic'. Times are in UTC, durations in seconds; write \"end\" in quotes."
    " What is read is checked and each event counts once. The statement can only read these tables:"
    " neither files nor the network."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "query", "ask Runs a question in SQL (DuckDB)", _query,
        description=_DESCRIPTION, lists_problems=True,
    )  # fmt: skip
    parser.add_argument("place", metavar="PLACE", help=PLACE_HELP)
    parser.add_argument("sql", metavar="SQL", help="one statement; - reads it from standard input")
    form = parser.add_mutually_exclusive_group()
    add_json_option(form)  # type: ignore[arg-type]  # a group takes arguments as a parser does
    form.add_argument("--csv", action="store_true", help="print CSV, safe to open in a spreadsheet")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"print at most N rows; 0 is all; default: {LIMIT} in a table, all with --json, --csv",
    )
    add_period_options(parser, "traces that started, with their spans, and events")
    add_damaged_option(parser)
    add_prices_option(parser)
    add_source_options(parser)


def _query(options: argparse.Namespace) -> int:
    from asynctrack._reading.query import QueryError, query

    from ._progress import progress

    if options.limit is not None and options.limit < 0:
        raise Missing(f"--limit {options.limit} is not allowed: it must be 0 or more")
    sql = sys.stdin.read() if options.sql == "-" else options.sql
    limit = options.limit if options.limit is not None else LIMIT
    if options.limit is None and (options.json or options.csv):
        limit = 0
    period = period_of(options)
    runs = named_runs(options.place, options)
    try:
        with progress("reading") as advance, query(runs, sql, advance, period) as answer:
            rows = answer.rows if limit == 0 else islice(answer.rows, limit)
            if options.json:
                _print_json(answer, rows)
            elif options.csv:
                _print_csv(answer, rows)
            else:
                _print_table(answer, rows)
            if limit and next(answer.rows, None) is not None:
                print(
                    f"asynctrack: these are the first {limit:,} rows, and there are more: give"
                    " --limit N, or 0 for all",
                    file=sys.stderr,
                )
    except QueryError as error:
        raise Missing(str(error)) from error
    say_set_aside(runs)
    return 0


def _print_json(answer: Any, rows: Iterator[tuple[Any, ...]]) -> None:
    """Print one document, row by row: an answer may be larger than memory."""
    columns = [
        {"name": name, "type": kind}
        for name, kind in zip(answer.columns, answer.types, strict=True)
    ]
    names = _distinct(answer.columns)
    print(f'{{"columns": {json.dumps(columns)}, "rows": [', end="")
    separator = "\n  "
    for row in rows:
        document = {name: _json(value) for name, value in zip(names, row, strict=True)}
        print(separator + json.dumps(document, allow_nan=False), end="")
        separator = ",\n  "
    print("\n]}")


def _print_csv(answer: Any, rows: Iterator[tuple[Any, ...]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in _csv_rows(answer, rows):
        writer.writerow(row)
        if buffer.tell() > 64_000:
            _write(buffer)
    _write(buffer)


def _csv_rows(answer: Any, rows: Iterator[tuple[Any, ...]]) -> Iterator[list[Any]]:
    yield [safe_cell(name) for name in answer.columns]
    for row in rows:
        yield [safe_cell(_text(value)) if value is not None else "" for value in row]


def _write(buffer: io.StringIO) -> None:
    # Escape what a terminal would obey, or a file in another encoding cannot take.
    encoding = sys.stdout.encoding or "utf-8"
    text = _shown(buffer.getvalue(), lines=True) if sys.stdout.isatty() else buffer.getvalue()
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    buffer.seek(0)
    buffer.truncate()


def _print_table(answer: Any, rows: Iterator[tuple[Any, ...]]) -> None:
    from ._screen import Screen

    shown = [[_cell(value) for value in row] for row in rows]
    screen = Screen()
    screen.table(answer.columns, shown)
    screen.line(f"{len(shown):,} row{'' if len(shown) == 1 else 's'}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else _text(value)
    if len(text) > CELL:
        return f"{text[:CELL]}… ({len(text):,} characters)"
    return text


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, (dict, list, bytes)):
        return json.dumps(_json(value), ensure_ascii=False)
    return str(value)


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return plain(value if isinstance(value, (str, int, float, type(None))) else str(value))


def _distinct(names: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for name in names:
        number = 2
        new = name
        while new in found:
            new = f"{name}_{number}"
            number += 1
        found.append(new)
    return found


def _shown(text: str, *, lines: bool = False) -> str:
    from ._screen import printable

    return printable(text, lines=lines)
