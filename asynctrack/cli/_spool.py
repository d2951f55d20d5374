"""``asynctrack spool``: what waits on disk, whether it is sound, and its delivery by hand.

Everything in a spool is untrusted: it may come from another machine, and names are whatever users
and their programs made of them. It is printed escaped, never as markup.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asynctrack._spool.layout import default_spool_dir, waiting_segments, writers

from ._common import Missing, print_json
from ._screen import Screen
from ._spool_state import WriterState, find_spools, say, states

_CODES = {
    "ls": "Exit codes: 0 it worked, 2 there is no spool in the folder given.",
    "verify": "Exit codes: 0 every record is sound, 1 something is damaged or cannot be read,"
    " 2 there is no spool in the folder given.",
    "replay": "Exit codes: 0 all that waited is delivered, 1 something is not (it stays where it"
    " is, and the last lines say why), 2 called wrongly or something needed is missing, 130 Ctrl-C"
    " (what was delivered by then is done with).",
    "export": "Exit codes: 0 all that waits is in the file, 1 something damaged is not, 2 called"
    " wrongly.",
}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    spool = commands.add_parser(
        "spool",
        help="show, check, deliver or export events that wait on this machine's disk",
        description="Events that were accepted and that S3 has not acknowledged wait on disk."
        " A tracker delivers them, also those of programs that were killed; these commands do it by"
        " hand.",
    )
    actions = spool.add_subparsers(dest="action", metavar="ACTION", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--spool-dir",
        metavar="DIR",
        help="the spool; default: $ASYNCTRACK_SPOOL_DIR, else all places where this user's trackers"
        f" keep events: {default_spool_dir()}, and those they take where that cannot be used",
    )
    shared.add_argument("--json", action="store_true", help="print one JSON document instead")
    for name, text, function in (
        ("ls", "show the writers: living or dead, what they have, and where it belongs", _ls),
        ("verify", "check every record against its checksum", _verify),
        ("replay", "deliver what writers left that have died", _replay),
        ("export", "write the events that wait to a file, one JSON object on each line", _export),
    ):
        parser = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[shared],
            epilog=_CODES[name],
        )  # fmt: skip
        parser.set_defaults(run=function)
        if name == "replay":
            _add_replay_options(parser)
        elif name == "export":
            parser.add_argument(
                "--output", metavar="FILE", required=True, help="a new file; - is standard output"
            )


def _add_replay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "writers", nargs="*", metavar="WRITER", help="replay only these; default: all that died"
    )
    parser.add_argument(
        "--to",
        metavar="PLACE",
        help="s3://bucket/prefix or a folder: deliver there and not where the spool says; needed"
        " for writers that do not say it. A place that ends in experiment=…/run=… is taken"
        " as it is, else these are added",
    )
    parser.add_argument(
        "--dead-letters",
        action="store_true",
        help="send again what S3 refused for good, instead of what waits; also of writers that"
        " live. What it refuses again stays, with the new reason",
    )
    parser.add_argument("--endpoint-url", help="S3's address, instead of the one in the spool")
    parser.add_argument("--profile", help="profile of the AWS configuration")
    parser.add_argument("--region", help="AWS region, instead of the one in the spool")


def _ls(options: argparse.Namespace) -> int:
    spools = {path: states(path) for path in find_spools(options.spool_dir)}
    found = [one for writers in spools.values() for one in writers]
    if options.json:
        print_json({"spool_dirs": [*map(str, spools)], "writers": [asdict(one) for one in found]})
        return 0
    screen = Screen()
    for path, writers_there in spools.items():
        say(screen, _summary(path, writers_there))
        if not writers_there:
            continue
        screen.table(
            ["writer", "state", "events", "bytes", "belongs to", "beside that"],
            [
                [
                    one.writer_id,
                    one.state,
                    f"{one.events:,}",
                    f"{one.bytes:,}",
                    one.where,
                    _beside(one),
                ]
                for one in writers_there
            ],
        )
    if any(one.state == "dead" and (one.events or one.held) for one in found):
        say(
            screen,
            "The next tracker that uses this spool delivers what the dead ones left, or:"
            " asynctrack spool replay",
        )
    if any(one.dead_letters for one in found):
        say(screen, "Dead letters, refused for good, and why: asynctrack show RUN --dead-letters")
        say(screen, "To send them again: asynctrack spool replay --dead-letters")
    return 0


def _summary(spool_dir: Path, found: list[WriterState]) -> str:
    events, size = sum(one.events for one in found), sum(one.bytes for one in found)
    return f"{events:,} events wait in {spool_dir}, {size:,} bytes, of {len(found)} writers"


def _beside(one: WriterState) -> str:
    parts = {
        "held events": one.held,
        "damaged events": one.damaged,
        "unreadable segments": one.unreadable,
        "files of dead letters": one.dead_letters,
    }
    return ", ".join(f"{count} {name}" for name, count in parts.items() if count)


def _verify(options: argparse.Namespace) -> int:
    spools = {path: states(path) for path in find_spools(options.spool_dir)}
    found = [one for writers in spools.values() for one in writers]
    problems = [problem for one in found for problem in one.problems]
    if options.json:
        print_json(
            {
                "spool_dirs": [*map(str, spools)],
                "ok": not problems,
                "events": sum(one.events for one in found),
                "segments": sum(one.segments for one in found),
                "damaged": sum(one.damaged for one in found),
                "unreadable": sum(one.unreadable for one in found),
                "problems": problems,
            }
        )
        return 1 if problems else 0
    screen = Screen()
    for problem in problems:
        say(screen, f"DAMAGED  {problem}")
    for path, writers_there in spools.items():
        segments = sum(one.segments for one in writers_there)
        say(screen, f"{_summary(path, writers_there)}, in {segments} segments")
    if problems:
        say(
            screen,
            "A replay delivers all sound events, sets damaged segments aside (.damaged) and leaves"
            " what it cannot read. Delete those files once you have no more use for them.",
        )
    else:
        say(screen, "Every record is sound: all checksums match.")
    return 1 if problems else 0


def _replay(options: argparse.Namespace) -> int:
    from . import _spool_replay  # only here: it imports the backends

    return _spool_replay.replay(find_spools(options.spool_dir), options)


def _export(options: argparse.Namespace) -> int:
    from asynctrack._delivery.replay_plan import numbers, plan_segment

    spools = find_spools(options.spool_dir)
    events = 0
    problems: list[str] = []
    with _output(options.output) as out:
        for folder in (folder for spool_dir in spools for folder in writers(spool_dir)):
            for path in waiting_segments(folder):
                plan = plan_segment(path)
                if plan.problem and path.exists():
                    problems.append(plan.problem)
                if plan.damaged:
                    problems.append(f"{path}: seq {numbers(plan.damaged)} damaged")
                for batch in plan.batches:
                    out.write(batch.raw)
                events += plan.events
    screen = Screen(sys.stderr if options.output == "-" else None)
    if options.json and options.output != "-":
        print_json({"output": options.output, "events": events, "problems": problems})
    else:
        for problem in problems:
            say(screen, f"LEFT OUT  {problem}")
        say(screen, f"{events:,} events written to {options.output}; they still wait in the spool")
    return 1 if problems else 0


@contextmanager
def _output(name: str) -> Iterator[Any]:
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # Prompts are nobody else's business, and nothing is ever overwritten.
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Missing(f"{name} exists already: name a new file") from None
    with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor
        yield file
