"""``asynctrack compact``: many small segments into few sorted Parquet files."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ._common import FAILED, OK, add_command, add_json_option, add_source_options, print_json
from ._runs import PLACE_HELP, named_runs

if TYPE_CHECKING:
    from asynctrack._reading.compaction.compact import CompactReport

_DESCRIPTION = (
    "The files lie beside the segments, below asynctrack/v1-compact/ with the same Hive keys, one"
    " or a few for each day, sorted by writer and sequence number. Each is read back and compared"
    " with the segments before it counts. Nothing is deleted without --delete, and then open_run,"
    " verify and query read the Parquet files instead. Segments of a writer that is still writing"
    " (or died less than an hour ago) are left. It can be stopped and run again at any time; run"
    " one at a time for each Run."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "compact",
        "put many small segments into few sorted Parquet files",
        _compact,
        description=_DESCRIPTION,
    )
    parser.add_argument("place", metavar="PLACE", help=PLACE_HELP)
    parser.add_argument(
        "--delete", action="store_true", help="delete the segments that are compacted and verified"
    )
    parser.add_argument(
        "--values",
        choices=("keep", "resolve"),
        default="keep",
        help="large texts and lists that stand once in a segment: keep them as rows of their own"
        " (event = 'value'), or resolve them: a copy in each event that refers to them; default:"
        " keep",
    )
    add_json_option(parser)
    add_source_options(parser)
    parser.set_defaults(set_aside=False)


def _compact(options: argparse.Namespace) -> int:
    from asynctrack._reading.compaction.compact import compact_run

    from ._progress import progress

    reports = []
    with progress("compacting", unit="segments") as advance:
        for run in named_runs(options.place, options):
            for location in run.found.locations:
                report = compact_run(
                    location,
                    now=time.time(),
                    delete=options.delete,
                    values=options.values,
                    progress=advance,
                )
                reports.append(report)
    if options.json:
        print_json({"runs": [asdict(report) for report in reports]})
    else:
        _show(reports, delete=options.delete)
    return FAILED if any(kept.fault for report in reports for kept in report.kept) else OK


def _show(reports: list[CompactReport], *, delete: bool) -> None:
    from ._screen import Screen

    screen = Screen()
    screen.table(
        [
            "run", "segments", "events", "MB", "Parquet files", "MB of them", "done before",
            "deleted", "being written",
        ],
        [
            [
                report.uri,
                f"{report.segments:,}",
                f"{report.events:,}",
                f"{report.segment_bytes / 1e6:.1f}",
                f"{len(report.files):,}",
                f"{report.file_bytes / 1e6:.1f}",
                f"{report.compacted:,}",
                f"{report.deleted:,}",
                f"{report.fresh:,}",
            ]
            for report in reports
        ],
    )  # fmt: skip
    for report in reports:
        for kept in report.kept:
            screen.line(f"kept: {kept.uri}: {kept.reason}")
        for orphan in report.orphans:
            what = "deleted" if delete else "counts for nothing; --delete deletes it"
            screen.line(f"left by a compact that was stopped: {orphan}: {what}")
    left = sum(report.deletable for report in reports)
    if left and not delete:
        screen.line(
            f"{left:,} segments are compacted, verified, and still there: --delete deletes them."
        )
