"""``asynctrack thread``: a conversation, all its turns in order."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ._common import (
    OK,
    Missing,
    add_command,
    add_json_option,
    add_prices_option,
    add_source_options,
    print_json,
)
from ._progress import progress
from ._runs import PLACE_HELP, add_damaged_option, named_runs, run_uris, say_set_aside
from ._screen import OUTCOME_STYLES, Screen, printable
from ._threads import feedback

if TYPE_CHECKING:
    from asynctrack._reading.conversations import Turn


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "thread", "show a conversation: all its turns in order", run,
        description="Its turns are the traces of a session or thread, of all Runs of the place."
        " What was said is shown whole: the last message of the user, and the answer to it.",
        lists_problems=True,
    )  # fmt: skip
    parser.add_argument("place", metavar="PLACE", help=PLACE_HELP)
    parser.add_argument(
        "id", metavar="ID", help="of the session or thread; asynctrack threads lists them"
    )
    add_json_option(parser)
    add_damaged_option(parser)
    add_prices_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Show it.

    Raises:
        Missing: There is none with this id, or the place is none.
        MissingExtraError: duckdb or pyarrow is not installed.
        AsynctrackError: A Run cannot be read.
    """
    from asynctrack._reading.conversations import TABLES, nearest_ids, turns
    from asynctrack._reading.index.tables import open_tables

    runs = named_runs(options.place, options)
    with progress("reading") as advance:
        opened = open_tables(runs, TABLES, asked_by="asynctrack thread", progress=advance)
        with opened as tables:
            found = turns(tables, options.id)
            near = () if found else nearest_ids(tables, options.id)
    say_set_aside(runs)
    if not found:
        raise Missing(_unknown(options, near))
    if options.json:
        print_json({"id": options.id, "turns": [asdict(turn) for turn in found]})
    else:
        _show(Screen(), options.id, found, run_uris(runs))
    return OK


def _unknown(options: argparse.Namespace, near: Sequence[str]) -> str:
    text = f"no trace of {options.place} names the session or thread {options.id!r}"
    if not near:
        return f"{text}: asynctrack threads {shlex.quote(options.place)} lists them"
    return f"{text}; did you mean:" + "".join(f"\n  {printable(one, lines=False)}" for one in near)


def _show(
    screen: Screen, name: str, turns: Sequence[Turn], uris: Mapping[tuple[str, str], str]
) -> None:
    from . import _words as words

    users = list(dict.fromkeys(turn.user_id for turn in turns if turn.user_id is not None))
    failed = sum(turn.outcome == "error" for turn in turns)
    read = sum(turn.input_tokens for turn in turns)
    written = sum(turn.output_tokens for turn in turns)
    costs = [turn.cost for turn in turns if turn.cost is not None]
    facts = [
        f"{len(turns):,} turn{'' if len(turns) == 1 else 's'}",
        f"{failed:,} failed",
        f"{read:,} tokens in, {written:,} out",
        words.usd(sum(costs)) if costs else "",
        f"user {', '.join(users)}" if users else "",
    ]
    screen.parts(("Conversation ", "bold"), (printable(name, lines=False), "bold cyan"))
    screen.line(printable(", ".join(fact for fact in facts if fact), lines=False))
    for turn in turns:
        _show_turn(screen, turn, uris)


def _show_turn(screen: Screen, turn: Turn, uris: Mapping[tuple[str, str], str]) -> None:
    from asynctrack._common.outcome import said_outcome

    from . import _words as words

    screen.line()
    screen.parts(
        (words.moment(turn.start_unix_nano) or "at a time unknown", "bold"),
        (f"  {words.name(turn.name)}", "dim"),
    )
    screen.quote("user", turn.asked)
    if turn.answered:
        screen.quote("answer", turn.answered)
    if turn.asks:
        screen.quote("asks", turn.asks)
    if turn.error is not None:
        where = "" if turn.error_span is None else f"in {words.name(turn.error_span)}: "
        screen.parts((f"  {where}", ""), (words.one_line(turn.error, words.LINE), "red"))
    facts = [
        words.seconds(turn.duration),
        f"{turn.input_tokens:,} → {turn.output_tokens:,} tokens" if turn.model_calls else "",
        words.usd(turn.cost),
        f"{turn.recovered:,} recovered" if turn.recovered else "",
        "" if turn.complete else "something of it is missing",
        feedback(turn.feedback),
    ]
    screen.parts(
        (f"  {said_outcome(turn.outcome, turn.cause)}", OUTCOME_STYLES[turn.outcome]),
        ("".join(f"  {fact}" for fact in facts if fact), ""),
    )
    uri = shlex.quote(uris[turn.experiment, turn.run])
    screen.line(f"  asynctrack trace {uri} {turn.trace_id}", "dim")
