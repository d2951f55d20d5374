"""``asynctrack show``: one Run in numbers, its slowest and its failed traces."""

from __future__ import annotations

import argparse
import heapq
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ._common import (
    RUN_HELP,
    add_command,
    add_json_option,
    add_prices_option,
    add_source_options,
    open_named_run,
    print_json,
    whole_number,
)
from ._progress import Advance, progress
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._common.outcome import Cause, Outcome
    from asynctrack._reading.decoding.events import Event
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.trees.summary import Percentiles, RunSummary
    from asynctrack._reading.trees.trace import Trace


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A trace on one line.

    Attributes:
        trace_id: Its id.
        name: The root's name.
        outcome: How its root ended.
        cause: Why, where it was cancelled or interrupted.
        duration: Seconds; None where its root is not whole.
        start_unix_nano: When it started.
        spans: How many it has.
        input_tokens: What its models read.
        output_tokens: What its models wrote.
        complete: Whether nothing of it is missing.
        error: Type and message of the root's error.
        error_span: The span to blame: the deepest one whose error that is.
    """

    trace_id: str
    name: str
    outcome: Outcome
    cause: Cause | None
    duration: float | None
    start_unix_nano: int | None
    spans: int
    input_tokens: int
    output_tokens: int
    complete: bool
    error: str = ""
    error_span: str = ""


@dataclass(slots=True)
class Remarkable:
    """The traces worth a look, of a stream of them: a bounded number.

    Attributes:
        at_most: How many of each.
        slowest: The slowest ones, the fastest of them first.
        failed: The last ones that failed.
        incomplete: The last ones of which something is missing, and that did not fail.
    """

    at_most: int
    slowest: list[tuple[float, int, TraceLine]] = field(default_factory=list)
    failed: list[TraceLine] = field(default_factory=list)
    incomplete: list[TraceLine] = field(default_factory=list)
    seen: int = 0

    def watch(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        """Pass traces on, and remember those worth a look."""
        for trace in traces:
            self.seen += 1
            line = trace_line(trace)
            if line.duration is not None:
                item = (line.duration, -self.seen, line)
                if len(self.slowest) < self.at_most:
                    heapq.heappush(self.slowest, item)
                elif self.slowest and item > self.slowest[0]:
                    heapq.heapreplace(self.slowest, item)
            kept = self.failed if line.outcome == "error" else self.incomplete
            if line.outcome == "error" or not line.complete:
                kept.append(line)
                del kept[: -self.at_most or len(kept)]
            yield trace


def trace_line(trace: Trace) -> TraceLine:
    """Return a trace on one line."""
    spans = list(trace.walk())  # once: a Run may have millions
    root, blame = trace.root, trace.blame
    read = written = 0
    start: int | None = None
    for span in spans:
        begin = span.start_unix_nano
        if begin is not None and (start is None or begin < start):
            start = begin
        if span.attributes:
            read += span.input_tokens or 0
            written += span.output_tokens or 0
    return TraceLine(
        trace_id=trace.trace_id,
        name=root.name or root.kind,
        outcome=root.outcome,
        cause=root.cause,
        duration=trace.duration,
        start_unix_nano=start,
        spans=len(spans),
        input_tokens=read,
        output_tokens=written,
        complete=trace.complete,
        error="" if root.error is None else root.error.line,
        error_span="" if blame is None else blame.name or blame.kind,
    )


def counted(events: Iterable[Event], advance: Advance) -> Iterator[Event]:
    """Pass events on, and show how many have come."""
    for event in events:
        advance(1)
        yield event


def traces_with_progress(recorded: RecordedRun, advance: Advance) -> Iterator[Trace]:
    """Yield a Run's traces, and show how many events were read."""
    from asynctrack._reading.trees.build import build_traces

    return build_traces(counted(recorded.events(), advance))


def expected_events(recorded: RecordedRun) -> int | None:
    """Return how many events the manifests list; None without manifests."""
    return recorded.manifest.accepted or None


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "show", "show one Run: numbers, percentiles, slowest and failed traces", run,
        description="It reads all events of the Run, once.", lists_problems=True,
    )  # fmt: skip
    parser.add_argument("run_name", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--top",
        type=whole_number,
        default=5,
        metavar="N",
        help="how many traces of each; default: 5",
    )
    parser.add_argument(
        "--dead-letters",
        action="store_true",
        help="show the events instead that S3 refused for good and that lie on this machine, with"
        " the reason",
    )
    add_prices_option(parser)
    add_json_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read the Run, and show it.

    Raises:
        Missing: The argument names nothing.
        AsynctrackError: It cannot be read.
    """
    from asynctrack._reading.trees.prices import read_prices
    from asynctrack._reading.trees.summary import summarize

    prices = read_prices(options.prices)
    recorded = open_named_run(options.run_name, options, damaged="set_aside")
    if options.dead_letters:
        from ._dead_letters import print_dead_letters, print_dead_letters_json

        (print_dead_letters_json if options.json else print_dead_letters)(recorded)
        return 0
    remarkable = Remarkable(options.top)
    events = 0
    with progress("reading", expected_events(recorded)) as advance:

        def count(more: int) -> None:
            nonlocal events
            events += more
            advance(more)

        traces = remarkable.watch(traces_with_progress(recorded, count))
        summary = summarize(recorded, traces=traces, prices=prices)
    slowest = [line for _, _, line in sorted(remarkable.slowest, reverse=True)]
    if options.json:
        from . import _plain

        print_json(
            {
                **_plain.summary(summary),
                "events": events,
                "slowest_traces": [asdict(line) for line in slowest],
                "failed_traces": [asdict(line) for line in remarkable.failed],
                "incomplete_traces": [asdict(line) for line in remarkable.incomplete],
                "dead_letters": [asdict(one) for one in recorded.dead_letters],
                "problem_list": [asdict(problem) for problem in recorded.problems],
            }
        )
        return 0
    screen = Screen()
    _show(recorded, summary, screen, empty=not events, priced=prices is not None)
    _show_traces(f"Slowest of {summary.traces:,} traces", slowest, screen)
    if remarkable.failed:
        title = f"Failed: {summary.failed:,}"
        if summary.failed > len(remarkable.failed):
            title += f", the last {len(remarkable.failed)}"
        _show_failed(title, remarkable.failed, screen)
    if remarkable.incomplete:
        _show_traces("Not whole", remarkable.incomplete, screen)
    if recorded.problems:
        screen.heading(f"Could not be read: {len(recorded.problems):,}")
        for problem in recorded.problems[: options.top]:
            screen.line(str(problem))
    if slowest:
        screen.line("\nOne of them, with its prompts and answers:")
        screen.line(f"asynctrack trace {shlex.quote(recorded.uris[0])} {slowest[0].trace_id}")
    return 0


def _show(
    recorded: RecordedRun, summary: RunSummary, screen: Screen, *, empty: bool, priced: bool
) -> None:
    from asynctrack._reading.sources.dead_letters import refused_events

    from . import _words as words

    screen.heading(f"{words.name(summary.experiment)} / {words.name(summary.run)}")
    for uri in recorded.uris:
        screen.line(uri)
    manifest = recorded.manifest
    dropped = sum(manifest.dropped.values())
    refused = refused_events(manifest.writers, recorded.dead_letters)
    state = "no manifest yet"
    if empty and not summary.writers:
        state = "empty: nothing is delivered yet, and nothing waits in this machine's spool"
    elif summary.writers:
        several = "" if summary.writers == 1 else "s"
        state = f"{'closed' if summary.closed else 'open'}, {summary.writers} writer{several}"
    facts = {
        "state": state,
        "time": f"{words.moment(summary.start_unix_nano)} – {words.moment(summary.end_unix_nano)}"
        if summary.start_unix_nano
        else "",
        "traces": _outcomes(summary),
        "spans": f"{summary.spans:,}, of them {summary.model_calls:,} model calls,"
        f" {summary.errors:,} with an error",
        "tokens": words.tokens(summary),
        "cost": _cost(summary, priced=priced),
        "spooled": f"{summary.spooled:,} spans, not delivered yet: on this machine"
        if summary.spooled
        else "",
        "refused": f"{refused:,} events, refused for good: --dead-letters shows them"
        if refused
        else "",
        "dropped": f"{dropped:,} events that were never accepted" if dropped else "",
    }
    for name, text in facts.items():
        if text:
            screen.parts((f"{name:<9}", "bold"), (text, ""))
    rows = [
        _percentiles("trace", summary.trace_seconds, words.seconds),
        _percentiles("model call", summary.model_seconds, words.seconds),
        _percentiles("to first token", summary.first_token_seconds, words.seconds),
        _percentiles("trace to first", summary.trace_first_token_seconds, words.seconds),
        _percentiles("tokens in, each call", summary.call_input_tokens, words.count),
        _percentiles("tokens out, each call", summary.call_output_tokens, words.count),
    ]
    rows = [row for row in rows if row]
    if rows:
        screen.heading("Percentiles")
        marks = ["p50", "p90", "p95", "p99", "max"]
        screen.table(["", "count", *marks], rows, right={"count", *marks})
    parameters = {
        name: value
        for name, value in summary.parameters.items()
        if name not in ("asynctrack.events", "asynctrack.manifest")
    }
    if parameters:
        screen.heading("Parameters")
        screen.table(
            ["name", "value"],
            [
                [words.name(name), words.one_line(value, 120)]
                for name, value in sorted(parameters.items())
            ],
        )
    logged = {
        name: metric
        for name, metric in summary.metrics.items()
        if not name.startswith(("gen_ai.", "asynctrack."))
    }
    if logged:
        screen.heading("Metrics")
        columns = ["last", "mean", "min", "max", "points"]
        screen.table(
            ["name", *columns],
            [
                [
                    words.name(name),
                    *(f"{getattr(one, mark):.6g}" for mark in columns[:4]),
                    f"{one.count:,}",
                ]
                for name, one in sorted(logged.items())
            ],
            right=set(columns),
        )


def _outcomes(summary: RunSummary) -> str:
    """Return how many traces there are, and how they ended."""
    others = {
        f"{summary.recovered:,} recovered error{'s' * (summary.recovered != 1)}": summary.recovered,
        f"{summary.cancelled:,} cancelled": summary.cancelled,
        f"{summary.interrupted:,} interrupted": summary.interrupted,
        f"{summary.unfinished:,} unfinished": summary.unfinished,
        f"{summary.abandoned:,} abandoned": summary.abandoned,
        f"{summary.incomplete:,} not whole": summary.incomplete,
    }
    said = [text for text, count in others.items() if count]
    return ", ".join([f"{summary.traces:,}, of them {summary.failed:,} failed", *said])


def _show_traces(title: str, lines: list[TraceLine], screen: Screen) -> None:
    from . import _words as words

    if not lines:
        return
    screen.heading(title)
    columns = ["trace", "name", "took", "spans", "tokens in", "tokens out", "began"]
    rows = [
        [
            line.trace_id,
            words.name(line.name),
            words.seconds(line.duration) or "–",
            words.count(line.spans),
            words.count(line.input_tokens),
            words.count(line.output_tokens),
            words.minute(line.start_unix_nano),
        ]
        for line in lines
    ]
    if screen.fits(columns, rows):
        right = {"took", "spans", "tokens in", "tokens out"}
        screen.table(columns, rows, right=right, whole={"trace", "began"})
        return
    for trace_id, name, took, spans, tokens_in, tokens_out, began in rows:
        screen.parts((trace_id, ""), (f"  {name}", "bold"))
        screen.line(f"  {took}  {spans} spans  {tokens_in} → {tokens_out} tokens  {began}")


def _show_failed(title: str, lines: list[TraceLine], screen: Screen) -> None:
    from . import _words as words

    screen.heading(title)
    for line in lines:
        screen.parts(
            (line.trace_id, ""),
            (f"  {words.name(line.name)}", "bold"),
            (f"  {words.seconds(line.duration)}  {words.minute(line.start_unix_nano)}", ""),
        )
        screen.parts(
            (f"  in {words.name(line.error_span)}: ", ""),
            (words.one_line(line.error, 200), "red"),
        )


def _percentiles(name: str, values: Percentiles, say: Any) -> list[str]:
    if not values.count:
        return []
    marks = (values.p50, values.p90, values.p95, values.p99, values.max)
    return [name, f"{values.count:,}", *(say(mark) for mark in marks)]


def _cost(summary: RunSummary, *, priced: bool) -> str:
    from . import _words as words

    if not priced:
        return "not known: give --prices FILE; no price is built in" if summary.model_calls else ""
    unknown = f"{summary.unpriced:,} model calls without a price or tokens"
    if summary.cost is None:
        return f"not known: {unknown}" if summary.unpriced else ""
    return words.usd(summary.cost) + (f", without {unknown}" if summary.unpriced else "")
