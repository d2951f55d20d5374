"""``asynctrack search``: the traces in which a phrase occurs, with the text around it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ._common import (
    OK,
    Missing,
    add_command,
    add_json_option,
    add_period_options,
    add_source_options,
    period_of,
    print_json,
    whole_number,
)
from ._progress import progress
from ._runs import PLACE_HELP, add_damaged_option, named_runs, run_uris, say_set_aside
from ._screen import OUTCOME_STYLES, Screen, printable

if TYPE_CHECKING:
    from asynctrack._reading.search import Hit, Hits, Match

LIMIT: Final = 20
MATCHES: Final = 5
"""Texts of one trace that are shown."""
_FOUND: Final = "black on yellow"


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "search", "find the traces in which a phrase occurs", run,
        description="It looks in prompts, answers, errors and their types, names, ids, and the"
        " metadata of roots; upper and lower case are the same. The latest traces come first; a"
        " text that several spans hold comes once.", lists_problems=True,
    )  # fmt: skip
    parser.add_argument("place", metavar="PLACE", help=PLACE_HELP)
    parser.add_argument("phrase", metavar="PHRASE", help="what is searched for, as one text")
    parser.add_argument(
        "--limit",
        type=whole_number,
        metavar="N",
        help=f"at most N traces; 0 is all; default: {LIMIT}, all with --json",
    )
    add_period_options(parser)
    add_json_option(parser)
    add_damaged_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Search, and show what was found.

    Raises:
        Missing: The phrase is empty, or the place is none.
        MissingExtraError: duckdb or pyarrow is not installed.
        AsynctrackError: A Run cannot be read.
    """
    from asynctrack._reading.index.tables import open_tables
    from asynctrack._reading.search import TABLES, search

    if not options.phrase.strip():
        raise Missing("an empty phrase is in every text: say what to search for")
    limit = options.limit
    if limit is None:
        limit = 0 if options.json else LIMIT
    period = period_of(options)
    runs = named_runs(options.place, options)
    with progress("reading") as advance:
        opened = open_tables(
            runs, TABLES, asked_by="asynctrack search", period=period, progress=advance
        )
        with opened as tables:
            found = search(tables, options.phrase, limit=limit)
    if options.json:
        traces = [asdict(one) for one in found.found]
        print_json({"phrase": options.phrase, "total": found.total, "traces": traces})
    else:
        _show(found, run_uris(runs))
    say_set_aside(runs)
    return OK


def _show(found: Hits, uris: dict[tuple[str, str], str]) -> None:
    screen = Screen()
    if not found.found:
        screen.line("Found in no trace.")
        return
    for hit in found.found:
        _show_hit(screen, hit)
    screen.line()
    traces = "trace" if found.total == 1 else "traces"
    shown = len(found.found)
    if shown < found.total:
        screen.line(f"The latest {shown:,} of {found.total:,} traces: --limit 0 shows all.")
    else:
        screen.line(f"Found in {found.total:,} {traces}.")
    first = found.found[0]
    uri = shlex.quote(uris[first.experiment, first.run])
    screen.line(f"asynctrack trace {uri} {first.trace_id}")


def _show_hit(screen: Screen, hit: Hit) -> None:
    from . import _words as words

    screen.line()
    screen.parts(
        (hit.trace_id, "bold cyan"),
        (f"  {words.moment(hit.start_unix_nano)}  {words.name(hit.name)}", ""),
        (f"  {hit.outcome}", OUTCOME_STYLES[hit.outcome]),
        (f"  session {words.name(hit.session_id)}" if hit.session_id else "", "dim"),
    )
    for match in hit.matches[:MATCHES]:
        often = f"  ({match.count:,} times)" if match.count > 1 else ""
        screen.parts(
            (f"  {words.name(match.name)}", "bold"),
            (f" {match.side}", "magenta"),
            ("  ", ""),
            *_parts(match),
            (often, "dim"),
        )
    more = hit.more + max(0, len(hit.matches) - MATCHES)
    if more:
        screen.line(f"  … and {more:,} more texts in it")


def _parts(match: Match) -> Iterator[tuple[str, str]]:
    """Yield the text in pieces, with the phrase marked."""
    at = 0
    for begin, end in match.marks:
        yield printable(match.text[at:begin], lines=False), ""
        yield printable(match.text[begin:end], lines=False), _FOUND
        at = end
    yield printable(match.text[at:], lines=False), ""
