"""How a place with any number of Runs is named: one Run, an experiment, or all below a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._common import spool_of
from ._named import find_named_runs
from ._screen import printable

if TYPE_CHECKING:
    from asynctrack._reading.run import RecordedRun

PLACE_HELP = (
    "a Run, an experiment, or a folder or s3://… above them; names (experiment, experiment/run) are"
    " looked for below --root, else SageMaker is asked"
)


def add_damaged_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--set-aside``."""
    parser.add_argument(
        "--set-aside",
        action="store_true",
        help="read on without objects that are not what their manifest lists, instead of failing",
    )


def named_runs(text: str, options: argparse.Namespace) -> list[RecordedRun]:
    """Open every Run at the place that a user names.

    Args:
        text: The argument.
        options: With the options of ``add_source_options`` and ``add_damaged_option``.

    Raises:
        Missing: ``text`` names nothing.
        AsynctrackError: As ``open_run``.
    """
    from asynctrack._reading.run import Damaged, RecordedRun
    from asynctrack._reading.sources.spool import this_spool
    from asynctrack._reading.trees.prices import read_prices

    damaged: Damaged = "set_aside" if options.set_aside else "raise"
    spool = this_spool(spool_of(options))
    prices = read_prices(options.prices) if hasattr(options, "prices") else None
    return [
        RecordedRun(one, damaged=damaged, spool=spool, prices=prices)
        for one in find_named_runs(text, options)
    ]


def run_uris(runs: Iterable[RecordedRun]) -> dict[tuple[str, str], str]:
    """Return the address of each Run by its experiment's and its own name."""
    return {(run.experiment, run.name): run.uris[0] for run in runs}


def say_set_aside(runs: Iterable[RecordedRun]) -> None:
    """Say on standard error what could not be read."""
    for problem in (problem for run in runs for problem in run.problems):
        print(f"asynctrack: set aside: {printable(str(problem), lines=False)}", file=sys.stderr)
