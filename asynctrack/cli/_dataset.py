"""``asynctrack dataset``: logged calls as examples, for the datasets of LangSmith and MLflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import closing
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
    whole_number,
)
from ._named import open_named_run
from ._runs import add_damaged_option, say_set_aside

if TYPE_CHECKING:
    from asynctrack._reading.dataset import Example
    from asynctrack._reading.export.files import Sink
    from asynctrack._reading.run import Damaged

_DESCRIPTION = (
    "A line is a JSON object: inputs and outputs of a call, expectations (the answer as text, and"
    " scores of the feedback by name), metadata (yours, where it comes from, how it ended, all"
    " feedback) and source. LangSmith's create_examples and MLflow's merge_records take the lines"
    " as they are. Messages are as OpenAI has them, images and files in them as they were logged;"
    " what is no object is below input or output. Without --kind and --span-name, calls from"
    " outside: the roots of traces. A call that failed has outputs null."
)
_WHERE = (
    "only calls for which this holds: a condition of SQL on a row of spans, as query has it:"
    " \"outcome = 'ok' AND trace_id IN (SELECT trace_id FROM feedback WHERE score > 0)\""
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "dataset", "make examples for evaluation from logged calls", run,
        description=_DESCRIPTION, lists_problems=True,
    )  # fmt: skip
    parser.add_argument("run_name", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--where", metavar="SQL", help=_WHERE)
    parser.add_argument(
        "--kind",
        action="append",
        metavar="KIND",
        help="calls of this kind, chat_model or tool for example; may be given several times",
    )
    parser.add_argument("--span-name", metavar="NAME", help="calls of this component")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="a new file of JSON lines; - is standard"
        " output",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--limit", type=whole_number, default=0, metavar="N", help="at most N examples; 0 is all"
    )
    add_period_options(parser)
    add_json_option(parser, "print what was written as one JSON document")
    add_damaged_option(parser)
    add_prices_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the examples.

    Raises:
        Missing: Called wrongly, or the argument names nothing.
        AsynctrackError: The Run cannot be read.
    """
    from asynctrack._reading.dataset import examples
    from asynctrack._reading.export.files import new_file
    from asynctrack._reading.query import QueryError

    from ._kinds import known_kinds
    from ._progress import progress

    to_stdout = options.output == "-"
    if to_stdout and options.json:
        raise Missing("--json is not allowed with --output -: both go to standard output")
    kinds = None if options.kind is None else known_kinds(options.kind, spans=True)
    period = period_of(options)
    damaged: Damaged = "set_aside" if options.set_aside else "raise"
    recorded = open_named_run(options.run_name, options, damaged=damaged)
    try:
        with progress("reading") as advance:
            found = examples(
                recorded, where=options.where, kind=kinds, name=options.span_name,
                period=period, limit=options.limit, progress=advance,
            )  # fmt: skip
            if to_stdout:
                sys.stdout.flush()
                written = _write(found, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                with new_file(Path(options.output), replace=options.force) as file:
                    written = _write(found, file)
    except QueryError as error:
        raise Missing(f"--where: {error}") from error
    say_set_aside([recorded])
    if not to_stdout:
        _say(options, *written)
    return OK


def _write(found: Generator[Example, None, None], out: Sink) -> tuple[int, int]:
    """Write a line for each example; return how many there are, and how many have no outputs."""
    from asynctrack._reading.decoding.events import json_text

    count = without = 0
    with closing(found):
        for example in found:
            out.write(f"{json_text(example)}\n".encode())
            count += 1
            without += example["outputs"] is None
    return count, without


def _say(options: argparse.Namespace, count: int, without: int) -> None:
    if options.json:
        path = str(Path(options.output).expanduser().absolute())
        print_json({"output": path, "examples": count, "without_outputs": without})
        return
    from ._screen import Screen

    screen = Screen()
    screen.line(f"{count:,} example{'' if count == 1 else 's'}: {options.output}")
    if without:
        screen.line(
            f"{without:,} without outputs, of calls that did not end well; leave them out with"
            " --where \"outcome = 'ok'\""
        )
    if not count:
        screen.line("No call matches what is asked for.")
