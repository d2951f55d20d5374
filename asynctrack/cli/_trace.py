"""``asynctrack trace``: one trace as a tree, with timings, tokens, prompts and answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asynctrack._common.log_record import said_by

from ._common import (
    RUN_HELP,
    Missing,
    add_command,
    add_json_option,
    add_prices_option,
    add_source_options,
    print_json,
)
from ._folded import expected_events, traces_with_progress
from ._named import open_named_run
from ._progress import progress
from ._screen import OUTCOME_STYLES, Screen

if TYPE_CHECKING:
    from asynctrack._reading.trees.prices import Prices
    from asynctrack._reading.trees.span import Span
    from asynctrack._reading.trees.trace import Trace

_SHOWN: Final = frozenset({"llm", "chat_model", "tool", "retriever"})
"""Kinds whose inputs and outputs are shown; those of chains repeat them."""
CRITICAL: Final = "◆"
"""What marks the spans that decide how long the trace takes."""
RECORDS: Final = 5
"""Log records of a span that are shown without ``--full``."""
_MAX_LISTED: Final = 20
_FULL_ID: Final = 36


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "trace", "show one trace as a tree: timings, tokens, prompts and answers", run,
        description="It reads the Run's events until it has found the trace.",
    )  # fmt: skip
    parser.add_argument("run_name", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "id",
        metavar="ID",
        help="of the trace, or of a span in it; the beginning is enough where no other begins so",
    )
    parser.add_argument(
        "--full", action="store_true", help="cut no text, and show tracebacks and chains' payloads"
    )
    parser.add_argument(
        "--timings", action="store_true", help="the tree only, without prompts and answers"
    )
    add_prices_option(parser)
    add_json_option(parser, "print one JSON document instead, with all that was stored")
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Find the trace, and show it.

    Raises:
        Missing: There is none, or several.
        AsynctrackError: The Run cannot be read.
    """
    from asynctrack._reading.trees.prices import read_prices

    prices = read_prices(options.prices)
    recorded = open_named_run(options.run_name, options, damaged="set_aside")
    with progress("looking for the trace", expected_events(recorded)) as advance:
        trace, span_id = find_trace(
            traces_with_progress(recorded, advance), options.id, ", ".join(recorded.uris)
        )
    if options.json:
        from . import _plain

        found = {"experiment": recorded.experiment, "run": recorded.name, "span_id": span_id}
        print_json(_plain.trace(trace, found))
        return 0
    _Tree(Screen(), full=options.full, timings=options.timings, prices=prices).show(trace, span_id)
    return 0


def find_trace(traces: Iterable[Trace], start: str, where: str) -> tuple[Trace, str | None]:
    """Find a trace by the beginning of its id, or of the id of a span in it.

    Returns:
        The trace, and the span's id where that was meant.

    Raises:
        Missing: There is none, or there are several; the text lists them.
    """
    wanted = start.lower().strip()
    if not wanted:
        raise Missing("an empty id: give the beginning of a trace's id; asynctrack show lists some")
    by_trace: dict[str, Trace] = {}
    by_span: dict[str, tuple[Trace, str]] = {}
    for trace in traces:
        if trace.trace_id.lower().startswith(wanted):
            by_trace.setdefault(f"{trace.trace_id} of writer {trace.writer_id}", trace)
            if len(wanted) >= _FULL_ID:
                break
        else:
            spans = (span.span_id for span in trace.walk())
            span_id = next((one for one in spans if one.lower().startswith(wanted)), None)
            if span_id is not None:
                by_span.setdefault(span_id, (trace, span_id))
                if len(wanted) >= _FULL_ID:
                    break
        if len(by_trace) > _MAX_LISTED:
            break
        while len(by_span) > _MAX_LISTED + 1:
            by_span.popitem()
    if len(by_trace) == 1:
        return next(iter(by_trace.values())), None
    if not by_trace and len(by_span) == 1:
        return next(iter(by_span.values()))
    names = list(by_trace or by_span)
    if not names:
        raise Missing(f"no trace and no span of {where} has an id that begins with {start!r}")
    listed = "".join(f"\n  {name}" for name in names[:_MAX_LISTED])
    more = "\n  …" if len(names) > _MAX_LISTED else ""
    raise Missing(f"several begin with {start!r}; give more of the id:{listed}{more}")


@dataclass(frozen=True, slots=True)
class _Timing:
    """Where the time of a span goes.

    Attributes:
        begin: When its trace started.
        own: Seconds that it took itself.
        critical: Whether it has a part in how long the trace takes.
    """

    begin: int | None
    own: float | None
    critical: bool


class _Tree:
    """Prints a trace.

    Args:
        screen: Where to.
        full: Whether texts are whole, and everything is shown.
        timings: Whether payloads are left out.
        prices: What models cost.
    """

    def __init__(self, screen: Screen, *, full: bool, timings: bool, prices: Prices | None) -> None:
        self._screen = screen
        self._full = full
        self._timings = timings
        self._prices = prices

    def show(self, trace: Trace, marked: str | None) -> None:
        """Print it, and mark the span that the user named."""
        from asynctrack._reading.trees.shown import layout
        from asynctrack._reading.trees.timing import (
            critical_path,
            critical_seconds,
            timed,
        )

        from . import _words as words

        facts = [
            words.seconds(trace.duration) or "not whole",
            f"{words.count(sum(1 for _ in trace.walk()))} spans",
            f"{trace.input_tokens:,} tokens in, {trace.output_tokens:,} out",
        ]
        first = trace.time_to_first_token
        if first is not None:
            facts.append(f"first token after {words.seconds(first)}")
        facts += words.outcomes(trace)
        if not trace.complete:
            facts.append("something of it is missing")
        if trace.spooled:
            facts.append("not delivered yet: on this machine")
        self._screen.parts(("Trace ", "bold"), (trace.trace_id, "bold cyan"))
        self._screen.line(f"{words.moment(trace.start_unix_nano)}, {', '.join(facts)}")
        if trace.resumes is not None:
            self._screen.parts(("It resumes ", ""), (trace.resumes, "cyan"))
        blame = trace.blame
        if blame is not None:
            self._screen.parts(("It failed in ", ""), (words.name(blame), "bold"))
        for span in trace.waits_for:
            self._screen.parts(
                ("It waits in ", ""),
                (words.name(span), "bold"),
                (f": {words.one_line(words.handed_on(span), words.LINE)}", ""),
            )
        spans = timed(trace)
        critical = critical_seconds(critical_path(spans))
        if len(spans) > 1 and critical:
            place, most = max(critical.items(), key=lambda one: one[1])
            slowest = next(span for n, span in enumerate(trace.walk()) if n == place)
            self._screen.parts(
                ("Slowest step: ", ""),
                (words.name(slowest), "bold"),
                (f", {words.seconds(most)} of the critical path (", ""),
                (CRITICAL, "yellow"),
                (")", ""),
            )
        self._screen.line()
        begin = trace.start_unix_nano
        for place, (span, lead, below) in enumerate(layout(trace.roots)):
            timing = _Timing(begin, span.self_time, place in critical and len(spans) > 1)
            self._span(span, lead, below, timing, marked=span.span_id == marked)

    def _span(self, span: Span, lead: str, below: str, timing: _Timing, *, marked: bool) -> None:
        from asynctrack._reading.trees.prices import cost_of

        from . import _words as words

        offset = ""
        if timing.begin is not None and span.start_unix_nano is not None:
            offset = f"+{words.seconds((span.start_unix_nano - timing.begin) / 1e9)}"
        took = words.seconds(span.duration)
        if span.children and timing.own is not None:
            took += f" (itself {words.seconds(timing.own)})"
        facts = [words.name(span.model), took, offset]
        facts.append(words.call_tokens(span))
        if self._prices is not None:
            facts.append(words.usd(cost_of(span, self._prices)))
        if span.stream is not None:
            first = span.stream.get("time_to_first_token")
            if isinstance(first, (int, float)):
                facts.append(f"first token after {words.seconds(first)}")
        if span.orphan:
            facts.append("its parent is unknown")
        if span.spooled:
            facts.append("spooled")
        name = words.name(span)
        kind = "" if span.name in (None, "", span.kind) else f" {words.name(span.kind)}"
        state = "" if span.outcome == "ok" else f"  {words.outcome(span)}"
        self._screen.parts(
            (lead, "dim"),
            (f"{CRITICAL} " if timing.critical else "", "yellow"),
            (name, "bold reverse" if marked else "bold"),
            (kind, "cyan"),
            (f"  {'  '.join(fact for fact in facts if fact)}", ""),
            (state, OUTCOME_STYLES[span.outcome]),
        )
        if not self._timings:
            self._payload(span, below)

    def _payload(self, span: Span, below: str) -> None:
        from . import _words as words

        if span.kind in _SHOWN or self._full or not span.children:
            for label, text in words.prompt(span):
                self._quote(below, label or "in", text)
            for label, text in words.answer(span):
                self._quote(below, f"⇒ {label}" if label else "⇒", text)
        exception = span.exception
        # Where it came up, not again on its way out.
        if exception is not None and (self._full or span.raised or span.hands_on):
            if span.error is not None:
                self._quote(below, "error", exception.line)
            elif span.hands_on:
                self._quote(below, str(span.cause), words.handed_on(span))
            else:
                self._quote(below, span.outcome, exception.line)
            if self._full and exception.traceback:
                self._quote(below, "traceback", exception.traceback)
        records = [(note, said_by(note.event, note.name, note.data)) for note in span.notes]
        lines = [record.line for _, record in records if record is not None]
        for line in lines if self._full else lines[:RECORDS]:
            self._quote(below, "log", line)
        if len(lines) > RECORDS and not self._full:
            self._quote(below, "log", f"{len(lines) - RECORDS:,} more: --full")
        if self._full:
            for note, record in records:
                if record is not None:
                    continue
                raw = {key: note.raw[key] for key in ("name", "inputs", "data") if key in note.raw}
                self._quote(below, note.event, words.said(raw))

    def _quote(self, below: str, label: str, text: str) -> None:
        from . import _words as words

        lines = words.shortened(text, None if self._full else words.CUT).split("\n")
        self._screen.parts((f"{below}  ", "dim"), (f"{label}: ", "magenta"), (lines[0], ""))
        for line in lines[1:]:
            self._screen.parts((f"{below}  ", "dim"), ("  " + line, ""))
