"""``asynctrack verify``: is every event of a Run there, exactly once and sound?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ._common import (
    FAILED,
    OK,
    add_command,
    add_json_option,
    add_source_options,
    print_json,
    spool_of,
)
from ._named import find_named_runs
from ._progress import progress
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.verify_report import Report, WriterReport

CODES = (
    "Exit codes: 0 every event is there exactly once and every checksum matches; 1 something is"
    " missing, doubled, damaged or not delivered yet; 2 called wrongly, or there is no such Run;"
    " 130 Ctrl-C."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "verify", "check that every event is there exactly once, and every checksum", run,
        description="It reads every object. What is missing is looked for in this machine's spool"
        " and among its dead letters.",
        codes=CODES,
    )  # fmt: skip
    parser.add_argument(
        "run_or_place",
        metavar="RUN",
        help="s3://… address, folder, or experiment/run; of a place with several Runs all of them",
    )
    add_json_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Verify, and print the report.

    Raises:
        Missing: The argument names nothing.
        AsynctrackError: It cannot be read.
    """
    from asynctrack._reading.sources.spool import this_spool
    from asynctrack._reading.verify import verify_found

    found = find_named_runs(options.run_or_place, options)
    with progress("checking", None, "objects") as advance:
        report = verify_found(
            found,
            options.run_or_place,
            this_spool(spool_of(options)),
            checked=lambda _: advance(1),
        )
    if options.json:
        print_json(
            {
                "ok": report.ok,
                "complete": report.complete,
                "events": report.events,
                "objects": report.objects,
                **asdict(report),
                "writers": [
                    {"ok": one.ok, "complete": one.complete, **asdict(one)}
                    for one in report.writers
                ],
            }
        )
    else:
        _show(report, Screen())
    return OK if report.complete else FAILED


def _show(report: Report, screen: Screen) -> None:
    for writer in report.writers:
        head, *details = str(writer).split("\n")
        screen.line(head, "" if writer.complete else "bold")
        for detail in details:
            screen.line(detail)
        for hint in _hints(writer):
            screen.line(f"    {hint}")
    for problem in report.problems:
        screen.line(f"cannot be read: {problem}")
    style = "bold green" if report.complete else "bold red"
    screen.line(str(report).split("\n", 1)[0], style)


def _hints(writer: WriterReport) -> list[str]:
    hints = []
    if writer.waiting:
        hints.append(
            "A living writer delivers them itself; of one that died the next tracker does, or:"
            f" asynctrack spool replay {writer.writer_id}"
        )
    if writer.dead_letters or writer.refused:
        hints.append(
            "Refused for good: asynctrack show RUN --dead-letters shows them and why, on the"
            " machine that logged them."
        )
    if writer.undelivered and writer.state in ("open", "died"):
        hints.append(
            "It has not closed: they may still come, or wait in the spool of the machine it ran on."
        )
    elif writer.missing:
        hints.append(
            "Not on this machine. Look into the spool of the machine it ran on (asynctrack spool"
            " ls), and for older versions of the objects where the bucket keeps them."
        )
    return hints
