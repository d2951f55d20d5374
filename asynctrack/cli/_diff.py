"""``asynctrack diff``: two Runs side by side: by component, parameters, final answers."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ._common import (
    FAILED,
    OK,
    RUN_HELP,
    add_command,
    add_json_option,
    add_period_options,
    add_prices_option,
    add_source_options,
    period_of,
    print_json,
    whole_number,
)
from ._diff_show import Compared, document, show
from ._named import open_named_run
from ._progress import progress
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._common.period import Period
    from asynctrack._reading.index.tables import Tables
    from asynctrack._reading.run import RecordedRun


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "diff", "compare two Runs: tools and models, parameters, final answers", run,
        description="A change is shown and coloured where it is more than noise: where its interval"
        " of confidence, of 99 %%, does not hold 0. Traces match by the name of their root and what"
        " they were asked: the last message of a human, or all inputs. --json: first and second (as"
        " show --json has them), components (kind, name, first, second, and differences: value, low"
        " and high of B less A, null where the sample is too small to tell, and beyond_noise, of"
        " failure_rate, p50, p95, first_p50, first_p95, tokens_per_call, cost_per_call), parameters"
        " that differ, traces (how many match, and those that do not), different (the first ones"
        " whose answers changed, with inputs and texts; --full: all).",
    )  # fmt: skip
    parser.add_argument("first", metavar="RUN_A", help=RUN_HELP)
    parser.add_argument("second", metavar="RUN_B", help="the same")
    parser.add_argument(
        "--top",
        type=whole_number,
        default=5,
        metavar="N",
        help="how many components of each kind, and changed answers, are shown; default: 5",
    )
    parser.add_argument(
        "--full", action="store_true", help="show all components and changed answers, whole"
    )
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 1 where parameters, final answers or the traces there are differ",
    )
    add_period_options(parser)
    add_prices_option(parser)
    add_json_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Compare, and show what differs.

    Raises:
        Missing: An argument names nothing.
        AsynctrackError: A Run cannot be read.
    """
    from asynctrack._reading.answers.changes import changes, samples
    from asynctrack._reading.answers.numbers import numbers
    from asynctrack._reading.answers.pairs import differing_parameters, match, texts, traces_of
    from asynctrack._reading.trees.prices import read_prices

    prices, period = read_prices(options.prices), period_of(options)
    runs = [
        open_named_run(name, options, damaged="set_aside")
        for name in (options.first, options.second)
    ]
    with ExitStack() as stack:
        tables = [_opened(one, period, stack) for one in runs]
        first, second = (
            numbers(opened, one, prices) for opened, one in zip(tables, runs, strict=True)
        )
        matches = match(*map(traces_of, tables))
        shown = matches.changed if options.full else matches.changed[: options.top]
        compared = Compared(
            first,
            second,
            changes(*map(samples, tables)),
            differing_parameters(first.parameters, second.parameters),
            matches,
            shown,
            texts(tables[0], [pair.first.number for pair in shown]),
            texts(tables[1], [pair.second.number for pair in shown]),
        )
    if options.json:
        print_json(document(compared))
    else:
        show(compared, Screen(), top=options.top, full=options.full)
    return FAILED if compared.differs and options.exit_code else OK


def _opened(recorded: RecordedRun, period: Period, stack: ExitStack) -> Tables:
    from asynctrack._reading.index.tables import open_tables

    with progress(f"reading {recorded.name}") as advance:
        opened = open_tables(
            [recorded],
            ("spans", "traces"),
            asked_by="asynctrack diff",
            period=period,
            progress=advance,
        )
        return stack.enter_context(opened)
