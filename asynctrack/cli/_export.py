"""``asynctrack export``: one Run, or one trace of it, to a file that other programs read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import (
    OK,
    RUN_HELP,
    Missing,
    add_command,
    add_json_option,
    add_period_options,
    add_prices_option,
    add_source_options,
    period_of,
    print_json,
)
from ._named import open_named_run
from ._runs import add_damaged_option

if TYPE_CHECKING:
    from asynctrack._reading.export.files import Exported
    from asynctrack._reading.run import Damaged, RecordedRun

FORMATS = ("parquet", "jsonl", "csv", "otlp", "html")
TRACES = 1_000
"""Traces in an HTML file, unless told otherwise: a browser must open it."""

_DESCRIPTION = (
    "parquet and csv hold a row for each span, jsonl the events; --table gives"
    " the other. otlp is OpenTelemetry's JSON with GenAI attributes, a request on each line, as the"
    " Collector and /v1/traces take it; --to sends it there. html is one file without scripts that"
    " opens anywhere. What was logged is escaped in each: no formula in a spreadsheet, no markup in"
    " a browser. Spans come in the order in which their traces ended."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "export", "write one Run to a file for other programs", _export,
        description=_DESCRIPTION, lists_problems=True,
    )  # fmt: skip
    parser.add_argument("run_name", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", metavar="FILE", help="a new file; - is standard output")
    where.add_argument(
        "--to",
        metavar="URL",
        help="with --format otlp: send the traces there, like http://localhost:4318/v1/traces;"
        " OTEL_EXPORTER_OTLP_HEADERS has what it wants besides",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--table", choices=("spans", "events"), help="the rows of parquet, jsonl and csv"
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"at most N rows, or traces of html; 0 is all; default: {TRACES:,} for html, else all",
    )
    parser.add_argument(
        "--trace",
        metavar="ID",
        help="this trace only: its id, or that of a span in it; the beginning is enough where no"
        " other begins so",
    )
    parser.add_argument(
        "--values",
        choices=("resolve", "keep"),
        default="resolve",
        help="large texts and lists that are stored once: resolve them, a copy in each event that"
        " refers to them, or keep them as rows of their own (event = 'value'; for --table events);"
        " default: resolve",
    )
    add_period_options(parser, "traces that started, with their spans, and events")
    add_json_option(parser, "print what was written as one JSON document")
    add_damaged_option(parser)
    add_prices_option(parser)
    add_source_options(parser)


def _export(options: argparse.Namespace) -> int:
    from asynctrack._reading.export.files import export_run, new_file

    from ._progress import progress

    limit = options.limit
    if limit is None:
        limit = TRACES if options.format == "html" else 0
    if options.to is not None:
        return _send(options, limit)
    to_stdout = options.output == "-"
    if to_stdout and options.json:
        raise Missing("--json is not allowed with --output -: both go to standard output")
    if to_stdout and sys.stdout.isatty():
        raise Missing("--output - does not write to a terminal: give a file, or pipe it elsewhere")
    period = period_of(options)
    damaged: Damaged = "set_aside" if options.set_aside else "raise"
    run = open_named_run(options.run_name, options, damaged=damaged)
    trace_id = None if options.trace is None else _trace_id(run, options.trace)
    with progress("exporting") as advance:
        arguments = {
            "table": options.table,
            "limit": limit,
            "values": options.values,
            "trace_id": trace_id,
            "period": period,
            "progress": advance,
        }
        if to_stdout:
            sys.stdout.flush()
            export_run(run, options.format, sys.stdout.buffer, **arguments)
            sys.stdout.buffer.flush()
        else:
            with new_file(Path(options.output), replace=options.force) as file:
                done = export_run(run, options.format, file, **arguments)
    for problem in run.problems:
        print(f"asynctrack: set aside: {_shown(str(problem))}", file=sys.stderr)
    if not to_stdout:
        _say(options, done, limit)
    return OK


def _send(options: argparse.Namespace, limit: int) -> int:
    if options.format != "otlp" or options.force or options.table or options.values != "resolve":
        raise Missing("--to sends traces: it takes --format otlp, and nothing that is of a file")
    if limit < 0:
        raise Missing("--limit is 0 or more")
    from asynctrack._errors import OptionError
    from asynctrack._options import Options
    from asynctrack._otlp.target import target_of
    from asynctrack._reading.export.files import selected_traces

    from ._progress import progress

    try:
        target = target_of(Options.resolve({"otlp": options.to}, {}).otlp)
    except OptionError:
        raise Missing("--to takes an address, like http://localhost:4318/v1/traces") from None
    assert target is not None  # an address is none of those that name nothing
    from asynctrack._otlp.posting import post_traces

    period = period_of(options)
    damaged: Damaged = "set_aside" if options.set_aside else "raise"
    run = open_named_run(options.run_name, options, damaged=damaged)
    trace_id = None if options.trace is None else _trace_id(run, options.trace)
    with (
        progress("sending") as advance,
        selected_traces(
            run, limit=limit, trace_id=trace_id, period=period, progress=advance
        ) as traces,
    ):
        sent = post_traces(traces, target, experiment=run.experiment, run=run.name)
    for problem in run.problems:
        print(f"asynctrack: set aside: {_shown(str(problem))}", file=sys.stderr)
    if options.json:
        print_json({"to": target.shown, "format": options.format, "rows": sent})
        return OK
    from ._screen import Screen

    Screen().line(f"{sent:,} span{'' if sent == 1 else 's'}: {target.shown}")
    return OK


def _trace_id(run: RecordedRun, start: str) -> str:
    from ._folded import expected_events, traces_with_progress
    from ._progress import progress
    from ._trace import find_trace

    with progress("looking for the trace", expected_events(run)) as advance:
        traces = traces_with_progress(run, advance)
        return find_trace(traces, start, ", ".join(run.uris))[0].trace_id


def _say(options: argparse.Namespace, done: Exported, limit: int) -> None:
    if options.json:
        print_json(
            {
                "output": str(Path(options.output).expanduser().absolute()),
                "format": options.format,
                "rows": done.rows,
                "bytes": done.bytes,
            }
        )
        return
    from ._screen import Screen

    table = options.table or {"jsonl": "events", "html": "traces"}.get(options.format, "spans")
    if done.rows == 1:
        table = table.removesuffix("s")
    Screen().line(f"{done.rows:,} {table}, {done.bytes:,} bytes: {options.output}")
    if limit and done.rows >= limit:
        Screen().line(f"There may be more: --limit {limit} was reached; --limit 0 writes all.")


def _shown(text: str) -> str:
    from ._screen import printable

    return printable(text, lines=False)
