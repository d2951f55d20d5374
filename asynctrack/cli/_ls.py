"""``asynctrack ls``: experiments and their Runs at a glance."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from ._common import (
    add_command,
    add_json_option,
    add_period_options,
    add_prices_option,
    add_source_options,
    period_of,
    print_json,
    spool_of,
)
from ._named import find_named_runs
from ._progress import Advance, progress
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._common.period import Period
    from asynctrack._reading.overview import RunOverview
    from asynctrack._reading.sources.locate import Found
    from asynctrack._reading.trees.prices import Prices

AT_A_TIME: Final = 8
"""Runs that are read at a time."""
PROBLEMS: Final = 5
"""Unreadable manifests that are named, each by itself."""
_COUNTED: Final = (
    "events",
    "spooled",
    "refused",
    "bytes",
    "traces",
    "failed",
    "input_tokens",
    "output_tokens",
)
_RIGHT: Final = frozenset(
    {
        "traces",
        "failed",
        "kept",
        "tokens in",
        "cached",
        "tokens out",
        "reasoning",
        "cost",
        "events",
        "spooled",
        "refused",
        "size",
    }
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "ls", "list experiments and runs: counts, tokens, errors, size, cost", run,
        description="It reads manifests, and no events but what writers that died stored last:"
        " counts are what writers said at their last update, and cost is known for Runs of one"
        " model only. --exact reads every event.",
    )  # fmt: skip
    parser.add_argument(
        "place",
        nargs="?",
        metavar="PLACE",
        help="a folder, an s3:// address, an experiment's name, or experiment/run; default: all"
        " that is below --root",
    )
    parser.add_argument("--exact", action="store_true", help="read all events of all Runs")
    add_period_options(parser, "Runs that were written to")
    add_prices_option(parser)
    add_json_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """List what is there.

    Raises:
        Missing: The place is none.
        AsynctrackError: It cannot be read.
    """
    from asynctrack._reading.trees.prices import read_prices

    period = period_of(options)
    prices = read_prices(options.prices)
    found = find_named_runs(options.place, options)
    with progress("looking at", len(found), "runs") as advance:
        runs = [one for one in _look(found, options, prices, advance) if _is_of(period, one)]
    runs.sort(key=lambda one: (one.experiment, one.start_unix_nano or 0, one.run))
    experiments = [
        (name, [one for one in runs if one.experiment == name])
        for name in dict.fromkeys(one.experiment for one in runs)
    ]
    if options.json:
        print_json(
            {
                "experiments": [
                    {"experiment": name, **_totals(some), "runs": [asdict(one) for one in some]}
                    for name, some in experiments
                ]
            }
        )
        return 0
    if runs:
        _show(experiments, exact=options.exact, prices=prices)
    else:
        Screen().line(f"None of {len(found):,} runs was written to in that time.")
    return 0


def _is_of(period: Period, run: RunOverview) -> bool:
    """Tell whether a Run may have something of a period: as its manifests say, or nobody knows."""
    goes_on = run.state == "writing" or run.spooled > 0
    return period.touches(run.start_unix_nano, None if goes_on else run.updated_unix_nano)


def _look(
    found: list[Found], options: argparse.Namespace, prices: Prices | None, advance: Advance
) -> Iterator[RunOverview]:
    from asynctrack._reading.overview import overview
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.sources.spool import this_spool

    spool = this_spool(spool_of(options))

    def look(one: Found) -> RunOverview:
        seen = overview(one, spool, prices)
        if options.exact:
            recorded = RecordedRun(one, damaged="set_aside", spool=spool, prices=prices)
            seen = _exactly(seen, recorded)
        return seen

    pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="asynctrack-ls")
    try:
        for one in pool.map(look, found):
            advance(1)
            yield one
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _exactly(seen: RunOverview, recorded: Any) -> RunOverview:
    from asynctrack._reading.trees.span import TOKEN_PARTS

    summary = recorded.summary()
    return replace(
        seen,
        based_on="events",
        traces=summary.traces,
        failed=summary.failed,
        model_calls=summary.model_calls,
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        **{name: getattr(summary, name) for name in TOKEN_PARTS},
        cost=summary.cost,
    )


def _totals(runs: Iterable[RunOverview]) -> dict[str, Any]:
    from asynctrack._reading.trees.span import TOKEN_PARTS

    runs = list(runs)
    names = (*_COUNTED, *TOKEN_PARTS)
    totals = {name: sum(getattr(one, name) or 0 for one in runs) for name in names}
    costs = [one.cost for one in runs if one.cost is not None]
    return {**totals, "cost": sum(costs) if costs else None}


def _show(
    experiments: list[tuple[str, list[RunOverview]]], *, exact: bool, prices: Prices | None
) -> None:
    from . import _words as words

    screen = Screen()
    for name, runs in experiments:
        screen.heading(_heading(name, runs))
        spooled = any(one.spooled for one in runs)
        refused = any(one.refused for one in runs)
        sampled = any(one.sampling for one in runs)
        columns = ["run", "state", "traces", "failed"] + ["kept"] * sampled + ["tokens in"]
        columns += ["cached"] * any(one.cache_read_tokens for one in runs) + ["tokens out"]
        columns += ["reasoning"] * any(one.reasoning_tokens for one in runs)
        columns += ["cost"] * (prices is not None) + ["events"] + ["spooled"] * spooled
        columns += ["refused"] * refused
        columns += ["size", "began"]
        cells = []
        for one in runs:
            row = {
                "run": words.name(one.run),
                "state": one.state,
                "traces": words.count(one.traces) or "?",
                "failed": words.count(one.failed) or "?",
                "kept": _kept(one),
                "tokens in": words.count(one.input_tokens) or "?",
                "cached": words.count(one.cache_read_tokens) or "?",
                "tokens out": words.count(one.output_tokens) or "?",
                "reasoning": words.count(one.reasoning_tokens) or "?",
                "cost": words.usd(one.cost) or "?",
                "events": words.count(one.events),
                "spooled": words.count(one.spooled),
                "refused": words.count(one.refused),
                "size": words.size(one.bytes),
                "began": words.minute(one.start_unix_nano),
            }
            cells.append([row[column] for column in columns])
        screen.table(columns, cells, right=_RIGHT, whole={"state", "began"})
    runs = [one for _, some in experiments for one in some]
    screen.line()
    if exact:
        screen.line("Counted from all events.")
    else:
        screen.line("From manifests, as of their writers' last update; --exact reads all events.")
        if any(one.traces is None for one in runs):
            screen.line("?: no manifest counts it; --exact does.")
    problems = [problem for one in runs for problem in one.problems]
    for problem in problems[:PROBLEMS]:
        screen.line(f"cannot be read, and not counted: {problem}")
    if len(problems) > PROBLEMS:
        screen.line(f"… and {len(problems) - PROBLEMS:,} more manifests; asynctrack verify.")
    if any(one.based_on == "listing" for one in runs):
        screen.line("state unknown: no manifest; events and size are those of the objects.")
    if any(one.state == "open" for one in runs):
        screen.line(
            "state open: being written elsewhere, or its writer died there; asynctrack verify."
        )
    died = [one for one in runs if one.state == "died"]
    if died:
        screen.line(
            "state died: a writer ended without closing. What it stored is counted"
            + (
                "; asynctrack spool replay delivers the rest, or the next tracker does."
                if any(one.spooled for one in died)
                else "."
            )
        )
    if any(one.sampling for one in runs):
        screen.line("kept: traces that were sampled, of all; the other numbers are of those kept.")
    if any(one.cache_read_tokens for one in runs):
        screen.line("cached: of the tokens in, those that came from the provider's cache.")
    if any(one.reasoning_tokens for one in runs):
        screen.line("reasoning: of the tokens out.")
    if any(one.spooled for one in runs):
        screen.line("spooled: events on this machine that are not delivered yet.")
    if any(one.refused for one in runs):
        screen.line("refused: dead letters, refused for good; asynctrack show RUN --dead-letters.")
    if prices is None:
        screen.line("Cost: give --prices FILE; no price is built in.")
    elif any(one.cost is None for one in runs):
        screen.line(
            "cost ?: no price for its model"
            + ("." if exact else ", or several models; --exact reads which one used what.")
        )


def _kept(run: RunOverview) -> str:
    sampled = run.sampling
    return "all" if sampled is None else f"{sampled.kept:,} of {sampled.traces:,}"


def _heading(name: str, runs: list[RunOverview]) -> str:
    from . import _words as words

    total = _totals(runs)
    parts = [
        f"{len(runs)} run{'' if len(runs) == 1 else 's'}",
        f"{words.count(total['traces'])} traces",
        f"{words.count(total['failed'])} failed",
        f"{words.count(total['events'])} events",
        words.size(total["bytes"]),
        words.usd(total["cost"]),
    ]
    return f"{words.name(name)}: {', '.join(part for part in parts if part)}"
