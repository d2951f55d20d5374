"""Shows how two Runs differ: by component, in parameters, and in their answers to the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from ._components import TITLES
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.answers.changes import Change, Sample
    from asynctrack._reading.answers.noise import Estimate
    from asynctrack._reading.answers.pairs import Asked, Matches, Pair, Texts
    from asynctrack._reading.trees.summary import RunSummary

LINES: Final = 8
"""Lines of an answer that changed."""
_HEADINGS: Final = {
    "failure_rate": "failed",
    "p50": "p50",
    "p95": "p95",
    "first_p50": "first p50",
    "first_p95": "first p95",
    "tokens_per_call": "tokens each",
    "cost_per_call": "cost each",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """Two Runs, compared.

    Attributes:
        first: The first one in numbers.
        second: The second one.
        changes: Their components.
        parameters: Those that differ.
        matches: How their traces go together.
        shown: The pairs whose answers are shown.
        first_texts: What is shown of them, by the number of the trace.
        second_texts: The same of the second Run.
    """

    first: RunSummary
    second: RunSummary
    changes: tuple[Change, ...]
    parameters: dict[str, tuple[Any, Any]]
    matches: Matches
    shown: tuple[Pair, ...]
    first_texts: Mapping[int, Texts]
    second_texts: Mapping[int, Texts]

    @property
    def differs(self) -> bool:
        """Whether parameters, final answers or the traces there are differ."""
        found = self.matches
        return bool(self.parameters or found.changed or found.only_first or found.only_second)


def document(compared: Compared) -> dict[str, Any]:
    """Return it for ``--json``."""
    from . import _plain

    matches = compared.matches
    return {
        "first": _plain.summary(compared.first),
        "second": _plain.summary(compared.second),
        "components": [
            {
                "kind": one.kind,
                "name": one.name,
                "first": _sample(one.first),
                "second": _sample(one.second),
                "differences": {
                    name: {**_known(found), "beyond_noise": found.beyond_noise}
                    for name, found in one.differences.items()
                },
            }
            for one in compared.changes
        ],
        "parameters": {
            name: {"first": a, "second": b} for name, (a, b) in compared.parameters.items()
        },
        "traces": {
            "matched": len(matches.pairs),
            "same_outputs": len(matches.pairs) - len(matches.changed),
            "only_first": [one.trace_id for one in matches.only_first],
            "only_second": [one.trace_id for one in matches.only_second],
        },
        "different": [
            {
                "name": pair.first.name,
                "inputs": compared.first_texts[pair.first.number].inputs,
                **{
                    name: {
                        "trace_id": trace.trace_id,
                        "outcome": trace.outcome,
                        "duration": trace.duration,
                        "input_tokens": trace.input_tokens,
                        "output_tokens": trace.output_tokens,
                    }
                    for name, trace in (("first", pair.first), ("second", pair.second))
                },
                "texts": [{"what": "output", **dict(zip(("first", "second"), said, strict=True))}],
            }
            for pair in compared.shown
            for said in [_answers(compared, pair)]
        ],
    }


def show(compared: Compared, screen: Screen, *, top: int, full: bool) -> None:
    """Print it.

    Args:
        compared: Both Runs.
        screen: Where to.
        top: How many components of each kind.
        full: Show all components, and all of each text.
    """
    from . import _words as words

    sides = (("A", "bold red", compared.first), ("B", "bold green", compared.second))
    for name, style, one in sides:
        screen.parts(
            (f"{name}  ", style),
            (f"{words.name(one.experiment)} / {words.name(one.run)}  ", ""),
            (one.uri, "dim"),
        )
    for kind, title in TITLES.items():
        found = [one for one in compared.changes if one.kind == kind]
        most = len(found) if full else max(top, 1) if kind == "trace" else top
        if found[:most]:
            screen.heading(title)
            _show_changes(found[:most], screen)
            screen.more(len(found) - most, ": --full shows all")
    _show_parameters(compared.parameters, screen)
    _show_metrics(compared, screen)
    _show_answers(compared, screen, full=full)


def _show_changes(changes: list[Change], screen: Screen) -> None:
    from . import _words as words

    measures = [
        name
        for name in _HEADINGS
        if any(name in side.measured for one in changes for side in (one.first, one.second) if side)
    ]
    rows: list[list[str]] = []
    styles: dict[tuple[int, int], str] = {}
    for one in changes:
        name = words.name(one.name or "all")
        for label, side in (("A", one.first), ("B", one.second)):
            calls = "–" if side is None else words.count(side.calls)
            values = [_said(side, measure) for measure in measures]
            rows.append([name, label, calls, *values])
            name = ""
        if one.beyond_noise:
            row = [""] * (3 + len(measures))
            row[1] = "B−A"
            for at, measure in enumerate(measures, 3):
                found = one.differences.get(measure)
                if found is not None and found.beyond_noise:
                    row[at] = _said_change(measure, found.value)
                    # Of all of them, less is better.
                    style = "bold green" if found.value < 0 else "bold red"
                    styles[len(rows) - 1, at] = styles[len(rows), at] = style
            rows.append(row)
    numbers = ["calls", *(_HEADINGS[name] for name in measures)]
    columns = ["name", "", *numbers]
    screen.table(columns, rows, right=set(numbers), whole={""}, styles=styles)


def _show_parameters(parameters: dict[str, tuple[Any, Any]], screen: Screen) -> None:
    from . import _words as words

    screen.heading("Parameters that differ" if parameters else "Parameters: all the same")
    if parameters:
        screen.table(
            ["name", "A", "B"],
            [
                [
                    words.name(name),
                    *("–" if one is None else words.one_line(one, 80) for one in values),
                ]
                for name, values in parameters.items()
            ],
        )


def _show_metrics(compared: Compared, screen: Screen) -> None:
    from . import _words as words

    first, second = (
        {
            name: metric.last
            for name, metric in one.metrics.items()
            if not name.startswith(("gen_ai.", "asynctrack."))
        }
        for one in (compared.first, compared.second)
    )
    differing = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    if differing:
        screen.heading("Metrics that differ, last values")
        rows = [
            [
                words.name(name),
                *(f"{one[name]:.6g}" if name in one else "–" for one in (first, second)),
            ]
            for name in differing
        ]
        screen.table(["name", "A", "B"], rows, right={"A", "B"})


def _show_answers(compared: Compared, screen: Screen, *, full: bool) -> None:
    from . import _words as words
    from ._textdiff import show_text_diff

    matches, shown = compared.matches, compared.shown
    changed = len(matches.changed)
    screen.heading(
        f"Final answers to the same questions: {changed:,} of {len(matches.pairs):,} changed"
    )
    ended = sum(pair.first.outcome != pair.second.outcome for pair in matches.changed)
    if ended:
        screen.line(f"{ended:,} of them ended differently: with an error in one run, say")
    for name, alone in (("A", matches.only_first), ("B", matches.only_second)):
        if alone:
            screen.line(f"Only in {name}: {len(alone):,} traces, the first is {alone[0].trace_id}")
    for pair in shown:
        question = compared.first_texts[pair.first.number].question
        screen.line()
        screen.parts(
            (words.name(pair.first.name), "bold"),
            (f"  {words.one_line(question, 100)}", ""),
        )
        for name, trace, style in (("A", pair.first, "bold red"), ("B", pair.second, "bold green")):
            screen.parts(
                (f"  {name}  ", style),
                (f"{trace.trace_id}  {words.seconds(trace.duration) or 'not whole'}", ""),
                (f"  {trace.input_tokens:,} → {trace.output_tokens:,} tokens", ""),
            )
        answers = _answers(compared, pair)
        show_text_diff(*answers, screen, lines=None if full else LINES)
    if changed > len(shown):
        screen.line(f"\n{changed - len(shown):,} more changed: --full shows all, and all of each")
    elif shown and not full:
        screen.line("\n--full shows all of each", "dim")


def _answers(compared: Compared, pair: Pair) -> tuple[str, str]:
    sides = (
        (pair.first, compared.first_texts[pair.first.number]),
        (pair.second, compared.second_texts[pair.second.number]),
    )
    first, second = (_answer(trace, texts) for trace, texts in sides)
    if first == second:  # the files in it are others
        first, second = ("\n".join((_answer(trace, texts), *texts.files)) for trace, texts in sides)
    return first, second


def _answer(trace: Asked, texts: Texts) -> str:
    from asynctrack._reading.answers.pairs import said_end

    return texts.answer if trace.outcome == "ok" else said_end(trace)


def _said(side: Sample | None, measure: str) -> str:
    found = None if side is None else side.measured.get(measure)
    return "–" if found is None else _unit(measure)(found.value)


def _said_change(measure: str, value: float) -> str:
    if measure == "failure_rate":
        text = f"{abs(value) * 100:.1f} pts"
    else:
        text = _unit(measure)(abs(value))
    return f"{'−' if value < 0 else '+'}{text}"


def _unit(measure: str) -> Callable[[float], str]:
    from . import _words as words

    if measure == "failure_rate":
        return words.percent
    if measure == "cost_per_call":
        return words.usd
    return words.count if measure == "tokens_per_call" else words.seconds


def _sample(side: Sample | None) -> dict[str, Any] | None:
    if side is None:
        return None
    measured = {name: found.value for name, found in side.measured.items()}
    return {"calls": side.calls, "failed": side.failed, **measured}


def _known(found: Estimate) -> dict[str, float | None]:
    return {name: one if math.isfinite(one) else None for name, one in asdict(found).items()}
