"""How a place with any number of Runs is named: one Run, an experiment, or all below a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ._common import access_of, open_named_experiment, source_of

if TYPE_CHECKING:
    from asynctrack._read import RecordedRun

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
    from asynctrack._backends._s3_read import Access
    from asynctrack._open import describe, locate_runs
    from asynctrack._read import Damaged, RecordedRun
    from asynctrack._sources import nothing_at
    from asynctrack._spooled import spool_folder

    damaged: Damaged = "set_aside" if options.set_aside else "raise"
    is_place = text.startswith("s3://") or (
        options.root is None and Path(text).expanduser().exists()
    )
    if not is_place and "/" not in text:
        return list(open_named_experiment(text, options, damaged=damaged).runs)
    source, root = source_of(text, options)
    spool = spool_folder(getattr(options, "spool_dir", None) or True)
    found = locate_runs(source, root, Access(**access_of(options)), spool)
    if not found:
        raise nothing_at(describe(source, root))
    return [RecordedRun(one, damaged=damaged, spool_dir=spool) for one in found]
