"""``asynctrack tail``: what comes of a Run, as it comes."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asynctrack._common.log_record import said_by
from asynctrack._errors import TransientError

from ._common import (
    RUN_HELP,
    Missing,
    add_command,
    add_json_option,
    add_source_options,
    print_json_line,
    spool_of,
    whole_number,
)
from ._kinds import known_kinds
from ._named import find_named_run
from ._screen import OUTCOME_STYLES, Screen, printable

if TYPE_CHECKING:
    from asynctrack._reading.decoding.events import Event
    from asynctrack._reading.merging.fetch import Fetched
    from asynctrack._reading.merging.follow import Follower
    from asynctrack._reading.sources.listing import StoredArtifact
    from asynctrack._reading.sources.locate import Found
    from asynctrack._reading.sources.spool import Spool
    from asynctrack._reading.trees.span import Span

SPOOL_EVERY: Final = 0.2
"""Seconds between two looks into the spool."""
LIST_EVERY: Final = 2.0
"""Seconds between two listings, unless told otherwise."""
PATIENCE: Final = 5.0
"""Seconds to wait for S3 before showing the spool without it."""
ALL_DAYS_EVERY: Final = 15
"""One of this many listings lists all days."""
NAMES: Final = 10_000
"""Spans whose names are remembered."""
LINE: Final = 160
"""Characters of a payload that are shown."""
_STYLES: Final = {"end": "green", "start": "cyan"}


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
    from asynctrack._reading.merging.follow import Follower
    from asynctrack._reading.sources.spool import this_spool

    kinds = None if options.kind is None else known_kinds(options.kind, spans=options.spans)
    spool = this_spool(spool_of(options))
    found = _find(options)
    follower = Follower(found, spool)
    show = _printer(options, kinds)
    objects = _Objects(follower)
    try:
        for event in _before(follower, objects, found, spool, options.lines):
            show(event)
        for event in _coming(follower, objects, options):
            show(event)
    finally:
        follower.close()
    return 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the objects gave."""

    fetched: list[Fetched]
    closed: bool


class _Objects:
    """Looks at the objects in a thread of its own, so that an S3 that does not answer stops
    nothing else."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="asynctrack-tail")
        self._skipping: Future[Mapping[str, Sequence[StoredArtifact]]] | None = None
        self._looking: Future[_Look] | None = None
        self._away = False

    def last(self, count: int) -> list[Event]:
        """Return the last events; only those of the spool if S3 is slow."""
        follower = self._follower
        waiting = follower.last_spooled(count)
        self._skipping = self._pool.submit(follower.everything)
        try:
            artifacts = follower.skip(self._skipping.result(PATIENCE))
            self._skipping = None
            ends = follower.ends(artifacts) if count else ()
            fetched = self._pool.submit(follower.fetch, ends).result(PATIENCE)
            return follower.merged_ends(count, waiting, fetched)
        except FutureTimeout:
            self._tell("S3 does not answer yet")
        except TransientError as error:
            self._skipping = None
            self._tell(str(error))
        return waiting

    def poll(self, *, all_days: bool, closing: bool) -> _Look | None:
        """Return what was found since the last call; None while a look goes on.

        Raises:
            BackendError: S3 said no, and trying again will not help.
            ReadError: A folder cannot be read.
        """
        if self._looking is None:
            self._looking = self._pool.submit(self._look, all_days, closing)
        if not self._looking.done():
            return None
        looked, self._looking = self._looking, None
        try:
            if self._skipping is not None:  # S3 is back: skip what is there by now
                self._follower.skip(self._skipping.result())
                self._skipping = None
            look = looked.result()
        except TransientError as error:
            self._skipping = None
            self._tell(str(error))
            return _Look([], closed=False)
        self._away = False
        return look

    def _look(self, all_days: bool, closing: bool) -> _Look:
        # Checked first: the listing then has what a writer delivered before it closed.
        closed = closing and self._follower.closed()
        fresh = self._follower.new_objects(all_days=all_days or closed)
        return _Look(self._follower.fetch(fresh), closed and not fresh)

    def _tell(self, text: str) -> None:
        if not self._away:
            print(
                f"asynctrack: {printable(text)}; it is tried again, and this machine's spool is"
                " followed",
                file=sys.stderr,
                flush=True,
            )
        self._away = True


def _find(options: argparse.Namespace) -> Found:
    from asynctrack._errors import NotFoundError

    told = False
    while True:
        try:
            return find_named_run(options.run_name, options)
        except (NotFoundError, Missing):
            if not options.wait:
                raise
        if not told:
            print(f"asynctrack: waiting for {printable(options.run_name)} …", file=sys.stderr)
            told = True
        time.sleep(options.interval)


def _before(
    follower: Follower,
    objects: _Objects,
    found: Found,
    spool: Spool,
    lines: int | None,
) -> Iterable[Event]:
    """Return the last events that are there, as many as the user wants."""
    if lines is not None:
        return objects.last(lines)
    from asynctrack._reading.run import RecordedRun

    everything = RecordedRun(found, damaged="set_aside", spool=spool)
    return _unless_away(event for event in everything.events() if not follower.seen(event))


def _unless_away(events: Iterable[Event]) -> Iterator[Event]:
    try:
        yield from events
    except TransientError as error:
        print(f"asynctrack: {printable(str(error))}; it is tried again", file=sys.stderr)


def _coming(follower: Follower, objects: _Objects, options: argparse.Namespace) -> Iterator[Event]:
    """Yield events until the Run is closed if that ends it, else for ever."""
    from asynctrack._reading.merging.merge import in_order

    listings = 0
    next_listing = 0.0
    while True:
        # Checked before the spool is read: the read then has what a writer logged before it closed.
        look = None
        if time.monotonic() >= next_listing:
            look = objects.poll(
                all_days=listings % ALL_DAYS_EVERY == 0, closing=options.until_closed
            )
        yield from in_order(follower.from_spool())
        if look is not None:
            yield from in_order(follower.events_of(look.fetched))
            listings += 1
            # Again at once, while there is something.
            next_listing = 0.0 if look.fetched else time.monotonic() + options.interval
        for problem in follower.take_problems():
            print(f"asynctrack: could not be read: {printable(str(problem))}", file=sys.stderr)
        sys.stdout.flush()
        if look is not None and look.closed:
            return
        if look is None or not look.fetched:
            time.sleep(min(SPOOL_EVERY, options.interval))


def _printer(options: argparse.Namespace, kinds: frozenset[str] | None) -> Callable[[Event], None]:
    from asynctrack._reading.trees.build import Pairs

    from . import _words as words

    screen = Screen()
    pairs = Pairs()
    names: OrderedDict[str, str] = OrderedDict()  # only starts say them

    def show_event(event: Event) -> None:
        starts = event.event.endswith("_start")
        if starts and event.span_id is not None and event.name is not None:
            names[event.span_id] = words.name(event.name)
            if len(names) > NAMES:
                names.popitem(last=False)
        if kinds is None or event.event in kinds:
            if options.json:
                print_json_line({**event.raw, "spooled": event.spooled})
            else:
                _show_event(event, event.name or names.get(event.span_id or ""), screen)

    def show_span(event: Event) -> None:
        span = pairs.add(event)
        if span is not None and (kinds is None or span.kind in kinds):
            if options.json:
                from . import _plain

                print_json_line(_plain.span(span))
            else:
                _show_span(span, screen)

    return show_span if options.spans else show_event


def _show_event(event: Event, name: str | None, screen: Screen) -> None:
    from asynctrack._reading.decoding.feedback import feedback_of
    from asynctrack._reading.trees.ending import exception_of, verdict_on

    from . import _words as words

    exception, feedback = exception_of(event), feedback_of(event)
    record = said_by(event.event, event.name, event.data)
    style = _STYLES.get(event.event.rpartition("_")[2], "bold")
    if exception is not None:
        style = OUTCOME_STYLES[verdict_on(event, None)[0]]
    if event.event == "metric" and isinstance(event.data, dict):
        text = f"{event.data.get('value')}"
    elif feedback is not None:
        text = words.feedback(feedback)
    elif exception is not None:
        text = exception.line
    elif record is not None:
        text = record.line
    else:
        payload = (event.outputs, event.inputs, event.data)
        text = next((words.said(one) for one in payload if one is not None), "")
    about = event.span_id
    if feedback is not None:
        about = feedback.span_id or feedback.trace_id
    screen.parts(
        ("~ " if event.spooled else "  ", "dim"),
        (f"{words.clock(event.time_unix_nano)}  ", "dim"),
        (f"{words.name(event.event):<16} ", style),
        (f"{words.name(name)}  ", "bold"),
        (words.one_line(text, LINE), ""),
        (f"  {about}" if about else "", "dim"),
    )


def _show_span(span: Span, screen: Screen) -> None:
    from . import _words as words

    facts = [words.name(span.model), words.seconds(span.duration), words.call_tokens(span)]
    if span.error is not None:
        text = span.error.line
    elif span.outcome == "interrupted":
        text = words.handed_on(span)
    else:
        text = " ".join(text for _, text in words.answer(span))
    screen.parts(
        ("~ " if span.spooled else "  ", "dim"),
        (f"{words.clock(span.end_unix_nano or 0)}  ", "dim"),
        (f"{words.outcome(span):<6} ", OUTCOME_STYLES[span.outcome]),
        (words.name(span), "bold"),
        (f" {words.name(span.kind)}  ", "cyan"),
        (f"{'  '.join(fact for fact in facts if fact)}  ", ""),
        (words.one_line(text, LINE), ""),
        (f"  {span.trace_id}", "dim"),
    )


def _lines(text: str) -> int | None:
    if text == "all":
        return None
    return whole_number(text, "a whole number, 0 or more, or 'all'")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: more than 0 seconds, to a day")
    return value
