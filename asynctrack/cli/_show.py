"""``asynctrack show``: one Run in numbers, by component, its slowest and its failed traces."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ._common import (
    RUN_HELP,
    add_command,
    add_json_option,
    add_period_options,
    add_prices_option,
    add_source_options,
    period_of,
    print_json,
    whole_number,
)
from ._named import open_named_run
from ._read_run import ReadRun, read_run
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.answers.numbers import TraceLine
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.trees.summary import Percentiles, RunSummary

LIMIT: Final = 20
"""Rows of parameters, and of metrics."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "show",
        "show one Run: numbers, tools and models, percentiles, slowest and failed traces", run,
        description="What is delivered is read once, and kept in an index beside the user's cache:"
        " the next answer takes a moment. --json: what summary() returns, by the same names, and"
        " components (kind, name, calls, failed, errors, p50, p95, first_p50 and first_p95: to the"
        " first token, input_tokens, output_tokens, cost; null without the extra that it needs),"
        " slowest_traces, failed_traces, incomplete_traces, dead_letters, problem_list. Times are"
        " in seconds.",
        lists_problems=True,
    )  # fmt: skip
    parser.add_argument("run_name", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--top",
        type=whole_number,
        default=5,
        metavar="N",
        help="how many traces, and components, of each; default: 5",
    )
    parser.add_argument(
        "--dead-letters",
        action="store_true",
        help="show the events instead that S3 refused for good and that lie on this machine, with"
        " the reason",
    )
    add_period_options(parser)
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

    prices = read_prices(options.prices)
    recorded = open_named_run(options.run_name, options, damaged="set_aside")
    if options.dead_letters:
        from ._dead_letters import print_dead_letters, print_dead_letters_json

        (print_dead_letters_json if options.json else print_dead_letters)(recorded)
        return 0
    read = read_run(recorded, options.top, prices, period_of(options))
    if options.json:
        print_json(_document(recorded, read))
    else:
        _print(recorded, read, options.top, priced=prices is not None)
    return 0


def _document(recorded: RecordedRun, read: ReadRun) -> dict[str, Any]:
    from . import _plain

    return {
        **_plain.summary(read.summary),
        "events": read.events,
        "sampling": None if (sampled := recorded.sampling) is None else asdict(sampled),
        "components": None if read.components is None else [asdict(one) for one in read.components],
        "slowest_traces": [asdict(line) for line in read.remarkable.slowest],
        "failed_traces": [asdict(line) for line in read.remarkable.failed],
        "incomplete_traces": [asdict(line) for line in read.remarkable.incomplete],
        "dead_letters": [asdict(one) for one in recorded.dead_letters],
        "problem_list": [asdict(problem) for problem in recorded.problems],
    }


def _print(recorded: RecordedRun, read: ReadRun, top: int, *, priced: bool) -> None:
    from ._components import show_components

    summary, seen = read.summary, read.remarkable
    screen = Screen()
    _show_facts(recorded, summary, screen, empty=not read.events, priced=priced)
    if read.components is None:
        screen.line(f"\n{read.lacking}")
    else:
        show_components(read.components, top, screen)
    _show_numbers(summary, screen)
    _show_traces(f"Slowest of {summary.traces:,} traces", seen.slowest, screen)
    if seen.failed:
        title = f"Failed: {summary.failed:,}"
        if summary.failed > len(seen.failed):
            title += f", the last {len(seen.failed)}"
        _show_failed(title, seen.failed, screen)
    if seen.incomplete:
        _show_traces("Not whole", seen.incomplete, screen)
    if recorded.problems:
        screen.heading(f"Could not be read: {len(recorded.problems):,}")
        for problem in recorded.problems[:top]:
            screen.line(str(problem))
        screen.more(len(recorded.problems) - top)
    if seen.slowest:
        screen.line("\nOne of them, with its prompts and answers:")
        screen.line(f"asynctrack trace {shlex.quote(recorded.uris[0])} {seen.slowest[0].trace_id}")


def _show_facts(
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
        "sampled": _sampled(recorded),
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


def _show_numbers(summary: RunSummary, screen: Screen) -> None:
    from . import _words as words

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
                for name, value in sorted(parameters.items())[:LIMIT]
            ],
        )
        screen.more(len(parameters) - LIMIT)
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
                for name, one in sorted(logged.items())[:LIMIT]
            ],
            right=set(columns),
        )
        screen.more(len(logged) - LIMIT)


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


def _show_traces(title: str, lines: tuple[TraceLine, ...], screen: Screen) -> None:
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


def _show_failed(title: str, lines: tuple[TraceLine, ...], screen: Screen) -> None:
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


def _sampled(recorded: RecordedRun) -> str:
    """Return what part of the traces is there, if it is not all."""
    sampled = recorded.sampling
    return "" if sampled is None else f"{sampled}: all numbers here are of the kept ones"


def _cost(summary: RunSummary, *, priced: bool) -> str:
    from . import _words as words

    if not priced:
        return "not known: give --prices FILE; no price is built in" if summary.model_calls else ""
    unknown = f"{summary.unpriced:,} model calls without a price or tokens"
    if summary.cost is None:
        return f"not known: {unknown}" if summary.unpriced else ""
    return words.usd(summary.cost) + (f", without {unknown}" if summary.unpriced else "")
