"""``asynctrack tail``: what comes of a Run, as it comes."""

from __future__ import annotations

import argparse
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._common import (
    RUN_HELP,
    Missing,
    access_of,
    add_command,
    add_json_option,
    add_source_options,
    print_json_line,
    source_of,
    spool_of,
)
from ._screen import Screen, printable

if TYPE_CHECKING:
    from asynctrack._decode import Event
    from asynctrack._follow import Follower
    from asynctrack._open import Found
    from asynctrack._span import Span

SPOOL_EVERY: Final = 0.2
"""Seconds between two looks into the spool."""
LIST_EVERY: Final = 2.0
"""Seconds between two listings, unless told otherwise."""
ALL_DAYS_EVERY: Final = 15
"""Of so many listings one lists all days."""
NAMES: Final = 10_000
"""Spans whose names are remembered."""
LINE: Final = 160
"""Characters of a payload that are shown."""
_STYLES: Final = {"error": "bold red", "end": "green", "start": "cyan"}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "tail", "follow a Run that is being written", run,
        description="On the machine that writes it, it reads the spool: events are there a moment"
        " after they were logged, marked with ~ until they are delivered. From elsewhere it lists"
        " objects. It ends with Ctrl-C.",
    )  # fmt: skip
    parser.add_argument("run_name", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "-n",
        "--lines",
        type=_lines,
        default=10,
        metavar="N",
        help="events that are there already and are shown first; 'all' for all; default: 10",
    )
    parser.add_argument(
        "--spans", action="store_true", help="show spans as they end, instead of events"
    )
    parser.add_argument(
        "--kind",
        action="append",
        metavar="KIND",
        help="only these events (llm_end, tool_error, metric, …), or with --spans these kinds"
        " (llm, chat_model, tool, …); may be given several times",
    )
    parser.add_argument(
        "--until-closed", action="store_true", help="end once all writers of the Run have closed"
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait for the Run where it is not there yet"
    )
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=LIST_EVERY,
        metavar="SECONDS",
        help=f"between two listings; default: {LIST_EVERY:g}",
    )
    add_json_option(parser, "print one JSON object for each event or span, each on its line")
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Follow the Run, until Ctrl-C or until it is closed.

    Raises:
        Missing: The argument names nothing.
        AsynctrackError: The Run is not there, or cannot be read.
    """
    from asynctrack._follow import Follower
    from asynctrack._spooled import spool_folder

    spool_dir = spool_folder(spool_of(options))
    found = _find(options)
    follower = Follower(found, spool_dir)
    show = _printer(options)
    try:
        for event in _before(follower, found, spool_dir, options.lines):
            show(event)
        for event in _coming(follower, options):
            show(event)
    finally:
        follower.close()
    return 0


def _find(options: argparse.Namespace) -> Found:
    from asynctrack._backends._s3_read import Access
    from asynctrack._errors import NotFoundError
    from asynctrack._open import locate_run
    from asynctrack._spooled import spool_folder

    access = Access(**access_of(options))
    spool_dir = spool_folder(spool_of(options))
    told = False
    while True:
        try:
            source, root = source_of(options.run_name, options)
            return locate_run(source, root, access, spool_dir)
        except (NotFoundError, Missing):
            if not options.wait:
                raise
        if not told:
            print(f"asynctrack: waiting for {printable(options.run_name)} …", file=sys.stderr)
            told = True
        time.sleep(options.interval)


def _before(
    follower: Follower, found: Found, spool_dir: Path | None, lines: int | None
) -> Iterable[Event]:
    """Return the events that are there already, as many as are asked for."""
    if lines is not None:
        return follower.last(lines)
    from asynctrack._read import RecordedRun

    everything = RecordedRun(found, damaged="set_aside", spool_dir=spool_dir).events()
    return (event for event in everything if not follower.seen(event))


def _coming(follower: Follower, options: argparse.Namespace) -> Iterator[Event]:
    """Yield events until the Run is closed, where that is to end it; else for ever."""
    from asynctrack._errors import TransientError
    from asynctrack._follow import in_order

    listings = 0
    next_listing = 0.0
    away = False
    while True:
        came = False
        for event in in_order(follower.from_spool()):
            came = True
            yield event
        if time.monotonic() >= next_listing:
            try:
                all_days = listings % ALL_DAYS_EVERY == 0
                for event in in_order(follower.from_objects(all_days=all_days)):
                    came = True
                    yield event
                if options.until_closed and not came and follower.closed():
                    # What came between the last listing and the last manifest.
                    yield from in_order(follower.from_objects(all_days=True))
                    return
                away = False
            except TransientError as error:
                if not away:
                    print(f"asynctrack: {printable(str(error))}; trying again", file=sys.stderr)
                away = True
            listings += 1
            next_listing = time.monotonic() + options.interval
        for problem in follower.take_problems():
            print(f"asynctrack: could not be read: {printable(str(problem))}", file=sys.stderr)
        sys.stdout.flush()
        time.sleep(min(SPOOL_EVERY, options.interval))


def _printer(options: argparse.Namespace) -> Callable[[Event], None]:
    from asynctrack._trace import Pairs

    kinds = None if options.kind is None else _kinds(options.kind)
    screen = Screen()
    pairs = Pairs()
    names: OrderedDict[str, str] = OrderedDict()  # only starts say them

    def show_event(event: Event) -> None:
        if event.span_id is not None and event.name is not None:
            names[event.span_id] = event.name
            if len(names) > NAMES:
                names.popitem(last=False)
        if kinds is None or event.event in kinds:
            if options.json:
                print_json_line({**event.raw, "spooled": event.spooled})
            else:
                _show_event(event, names.get(event.span_id or "") or event.name, screen)

    def show_span(event: Event) -> None:
        span = pairs.add(event)
        if span is not None and (kinds is None or span.kind in kinds):
            if options.json:
                from . import _plain

                print_json_line(_plain.span(span))
            else:
                _show_span(span, screen)

    return show_span if options.spans else show_event


def _kinds(given: Iterable[str]) -> frozenset[str]:
    return frozenset(one.strip().removeprefix("on_") for text in given for one in text.split(","))


def _show_event(event: Event, name: str | None, screen: Screen) -> None:
    from . import _words as words

    error = event.error if isinstance(event.error, dict) else {}
    if event.event == "metric" and isinstance(event.data, dict):
        text = f"{event.data.get('value')}"
    elif error:
        text = f"{error.get('type')}: {error.get('message')}"
    else:
        payload = (event.outputs, event.inputs, event.data)
        text = next((words.said(one) for one in payload if one is not None), "")
    screen.parts(
        ("~ " if event.spooled else "  ", "dim"),
        (f"{words.clock(event.time_unix_nano)}  ", "dim"),
        (f"{event.event:<16} ", _STYLES.get(event.event.rpartition("_")[2], "bold")),
        (f"{name or ''}  ", "bold"),
        (words.one_line(text, LINE), ""),
        (f"  {event.span_id}" if event.span_id else "", "dim"),
    )


def _show_span(span: Span, screen: Screen) -> None:
    from . import _words as words

    tokens = ""
    if span.input_tokens is not None or span.output_tokens is not None:
        tokens = f"{span.input_tokens or 0:,} → {span.output_tokens or 0:,} tokens"
    facts = [span.model or "", words.seconds(span.duration), tokens]
    if span.error is not None:
        text = f"{span.error.type}: {span.error.message}"
    else:
        text = " ".join(text for _, text in words.answer(span))
    screen.parts(
        ("~ " if span.spooled else "  ", "dim"),
        (f"{words.clock(span.end_unix_nano or 0)}  ", "dim"),
        (f"{span.status:<6} ", "green" if span.status == "ok" else "bold red"),
        (span.name or span.kind, "bold"),
        (f" {span.kind}  ", "cyan"),
        (f"{'  '.join(fact for fact in facts if fact)}  ", ""),
        (words.one_line(text, LINE), ""),
        (f"  {span.trace_id}", "dim"),
    )


def _lines(text: str) -> int | None:
    if text == "all":
        return None
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a whole number, 0 or more, or 'all'")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError("a number of seconds, more than 0")
    return value
