"""``asynctrack diff``: two Runs side by side: parameters, latency, tokens, prompts and outputs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._common import (
    FAILED,
    OK,
    RUN_HELP,
    add_command,
    add_json_option,
    add_prices_option,
    add_source_options,
    open_named_run,
    print_json,
)
from ._diff_show import Shown, Text, document, show_matches, show_numbers
from ._progress import progress
from ._screen import Screen
from ._show import expected_events, traces_with_progress

if TYPE_CHECKING:
    from asynctrack._reading.decoding.media import Say
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.trees.compare import Fingerprint, Pair
    from asynctrack._reading.trees.trace import Trace


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "diff", "compare two Runs: parameters, latency, tokens, prompts, outputs", run,
        description="Traces match by the name of their root and by its inputs. It reads all events"
        " of both Runs, and those of the traces that are shown once more.",
    )  # fmt: skip
    parser.add_argument("first", metavar="RUN_A", help=RUN_HELP)
    parser.add_argument("second", metavar="RUN_B", help="the same")
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="how many traces that differ are shown; default: 5",
    )
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 1 where parameters, prompts, outputs or the traces there are differ",
    )
    add_prices_option(parser)
    add_json_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Compare, and show what differs.

    Raises:
        Missing: An argument names nothing.
        AsynctrackError: A Run cannot be read.
    """
    from asynctrack._reading.trees.compare import Fingerprints, differing_parameters, match
    from asynctrack._reading.trees.prices import read_prices
    from asynctrack._reading.trees.summary import summarize

    from . import _words as words

    prices = read_prices(options.prices)
    runs = [
        open_named_run(name, options, damaged="set_aside")
        for name in (options.first, options.second)
    ]
    summaries, fingerprints = [], []
    for recorded in runs:
        taken = Fingerprints()
        with progress(f"reading {recorded.name}", expected_events(recorded)) as advance:
            traces = taken.watch(traces_with_progress(recorded, advance))
            summaries.append(summarize(recorded, traces=traces, prices=prices))
        fingerprints.append(taken.taken)
    first, second = summaries
    matches = match(*fingerprints)
    parameters = differing_parameters(first.parameters, second.parameters)
    say = None if options.json else words.told_apart
    shown = _with_texts(runs, matches.different[: max(0, options.top)], say)
    if options.json:
        print_json(document(first, second, matches, parameters, shown))
    else:
        screen = Screen()
        show_numbers(first, second, parameters, screen, prices)
        show_matches(matches, shown, screen)
    differ = parameters or matches.different or matches.only_first or matches.only_second
    return FAILED if differ and options.exit_code else OK


def _with_texts(runs: list[RecordedRun], pairs: Iterable[Pair], say: Say | None) -> list[Shown]:
    pairs = list(pairs)
    if not pairs:
        return []
    firsts = _fetch(runs[0], [pair.first for pair in pairs])
    seconds = _fetch(runs[1], [pair.second for pair in pairs])
    return [
        Shown(pair, one, other, tuple(_texts(one, other, say)))
        for pair in pairs
        if (one := firsts.get(_name(pair.first))) and (other := seconds.get(_name(pair.second)))
    ]


def _fetch(recorded: RecordedRun, wanted: list[Fingerprint]) -> dict[tuple[str, str], Trace]:
    missing = {_name(one) for one in wanted}
    found = {}
    with progress(f"reading {recorded.name} again", expected_events(recorded)) as advance:
        for trace in traces_with_progress(recorded, advance):
            name = (trace.writer_id, trace.trace_id)
            if name in missing:
                found[name] = trace
                missing.discard(name)
                if not missing:
                    break
    return found


def _name(one: Fingerprint) -> tuple[str, str]:
    return one.writer_id, one.trace_id


def _texts(first: Trace, second: Trace, say: Say | None) -> list[Text]:
    """Return the prompts and the output that differ."""
    from asynctrack._reading.trees.compare import model_calls

    from . import _words as words

    texts = []
    ones, others = model_calls(first), model_calls(second)
    for number in range(max(len(ones), len(others))):
        one = ones[number] if number < len(ones) else None
        other = others[number] if number < len(others) else None
        named = one or other
        assert named is not None
        what = f"prompt of {named.name or named.kind}"
        if len(ones) > 1 or len(others) > 1:
            what += f", call {number + 1}"
        said = [None if span is None else words.said(span.inputs, say) for span in (one, other)]
        texts.append(Text(what, *said))
    texts.append(Text("output", _outcome(first, say), _outcome(second, say)))
    return [text for text in texts if text.first != text.second]


def _outcome(trace: Trace, say: Say | None) -> str:
    from . import _words as words

    root = trace.root
    if root.error is not None:
        return root.error.line
    return words.said(root.outputs, say) if root.outcome == "ok" else words.outcome(root)
