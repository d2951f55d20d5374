"""``asynctrack threads``: sessions, or their users, one on each line."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ._common import (
    OK,
    add_command,
    add_json_option,
    add_period_options,
    add_prices_option,
    add_source_options,
    period_of,
    print_json,
    whole_number,
)
from ._progress import progress
from ._runs import PLACE_HELP, add_damaged_option, named_runs, say_set_aside
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.conversations import Feedback, Session, Sessions

LIMIT: Final = 50
SORTS: Final = ("last", "cost", "tokens", "turns", "failed")
_RIGHT: Final = frozenset(
    {"sessions", "turns", "failed", "calls", "tokens in", "tokens out", "cost"}
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "threads", "list sessions: turns, failures, tokens, cost, feedback", run,
        description="A session is what session_id or thread_id in the metadata name; its turns are"
        " traces, of all Runs of the place. asynctrack thread shows one.", lists_problems=True,
    )  # fmt: skip
    parser.add_argument("place", metavar="PLACE", help=PLACE_HELP)
    parser.add_argument(
        "--by",
        choices=("session", "user"),
        default="session",
        help="a line for each; default: session",
    )
    parser.add_argument(
        "--sort",
        choices=SORTS,
        default="last",
        help="what comes first: the latest turn, or the most of the others; default: last",
    )
    parser.add_argument(
        "--limit",
        type=whole_number,
        metavar="N",
        help=f"at most N lines; 0 is all; default: {LIMIT} in a table, all with --json",
    )
    add_period_options(parser, "turns that started")
    add_json_option(parser)
    add_damaged_option(parser)
    add_prices_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """List them.

    Raises:
        Missing: The place is none.
        MissingExtraError: duckdb or pyarrow is not installed.
        AsynctrackError: A Run cannot be read.
    """
    from asynctrack._reading.conversations import TABLES, sessions
    from asynctrack._reading.index.tables import open_tables

    limit = options.limit
    if limit is None:
        limit = 0 if options.json else LIMIT
    period = period_of(options)
    runs = named_runs(options.place, options)
    with progress("reading") as advance:
        opened = open_tables(
            runs, TABLES, asked_by="asynctrack threads", period=period, progress=advance
        )
        with opened as tables:
            found = sessions(tables, by=options.by, sort=options.sort, limit=limit)
    if options.json:
        listed = [asdict(one) for one in found.found]
        counts = {"total": found.total, "traces_without": found.without}
        print_json({"by": options.by, **counts, f"{options.by}s": listed})
    else:
        _show(found, options, priced=any(one.prices is not None for one in runs))
    say_set_aside(runs)
    return OK


def _show(found: Sessions, options: argparse.Namespace, *, priced: bool) -> None:
    from . import _words as words

    screen = Screen()
    by_user = options.by == "user"
    what = "user" if by_user else "session"
    judged = any(one.feedback for one in found.found)
    columns = [what, "sessions" if by_user else "user", "turns", "failed", "calls"]
    columns += ["tokens in", "tokens out"] + ["cost"] * priced + ["feedback"] * judged
    columns += ["first", "last"]
    cells = []
    for one in found.found:
        row = {
            what: one.id,
            "sessions": words.count(one.sessions),
            "user": ", ".join(one.users),
            "turns": words.count(one.turns),
            "failed": words.count(one.failed),
            "calls": words.count(one.model_calls),
            "tokens in": words.count(one.input_tokens),
            "tokens out": words.count(one.output_tokens),
            "cost": _cost(one),
            "feedback": feedback(one.feedback),
            "first": words.minute(one.start_unix_nano),
            "last": words.minute(one.last_unix_nano),
        }
        cells.append([row[column] for column in columns])
    if cells:
        screen.table(columns, cells, right=_RIGHT, whole={what, "first", "last"})
    else:
        screen.line(f"No trace names a {what}.")
    screen.line()
    if len(found.found) < found.total:
        screen.line(
            f"The first {len(found.found):,} of {found.total:,} {what}s: --limit 0 lists all."
        )
    if found.without:
        names = "names" if found.without == 1 else "name"
        trace = "trace" if found.without == 1 else "traces"
        screen.line(f"{found.without:,} {trace} {names} no {what}.")
    unpriced = sum(one.unpriced for one in found.found)
    if priced and unpriced:
        screen.line(f"The cost lacks {unpriced:,} model calls without a price or tokens.")
    if not priced:
        screen.line("Cost: give --prices FILE; no price is built in.")
    if found.found and not by_user:
        place = shlex.quote(options.place)
        screen.line(f"asynctrack thread {place} {shlex.quote(found.found[0].id)}")


def _cost(session: Session) -> str:
    from . import _words as words

    if session.cost is None and session.model_calls:
        return "?"
    return words.usd(session.cost or 0.0)


def feedback(given: tuple[Feedback, ...]) -> str:
    """Return feedback on one line: names, mean scores, how often."""
    from . import _words as words

    said = []
    for one in given:
        mean = "" if one.mean is None else f" {one.mean:.3g}"
        often = "" if one.count == 1 else f" (of {one.count:,})"
        said.append(f"{words.name(one.name) or 'feedback'}{mean}{often}")
    return ", ".join(said)
