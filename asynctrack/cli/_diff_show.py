"""Shows how two Runs differ: in numbers, and in the texts of traces to the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.trees.compare import Matches, Pair
    from asynctrack._reading.trees.prices import Prices
    from asynctrack._reading.trees.summary import RunSummary
    from asynctrack._reading.trees.trace import Trace

_PERCENTILES: Final = {
    "trace": "trace_seconds",
    "model call": "model_seconds",
    "to first token": "first_token_seconds",
    "trace to first token": "trace_first_token_seconds",
}
_MARKS: Final = ("p50", "p90", "p95", "p99")
_COUNTS: Final = (
    "traces", "failed", "recovered", "cancelled", "interrupted", "unfinished", "abandoned",
    "incomplete", "spans", "errors", "model_calls", "input_tokens",
    "output_tokens", "cache_read_tokens", "reasoning_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """A text of either trace; None where it has none.

    Attributes:
        what: ``prompt 1 of ChatOpenAI``, ``output``, …
        first: That of the first Run.
        second: That of the second one.
    """

    what: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair of traces that is shown.

    Attributes:
        pair: What it is a pair by.
        first: The trace of the first Run.
        second: The trace of the second one.
        texts: The texts that differ.
    """

    pair: Pair
    first: Trace
    second: Trace
    texts: tuple[Text, ...]


def document(
    first: RunSummary,
    second: RunSummary,
    matches: Matches,
    parameters: dict[str, tuple[Any, Any]],
    shown: list[Shown],
) -> dict[str, Any]:
    from . import _plain

    return {
        "first": _plain.summary(first),
        "second": _plain.summary(second),
        "parameters": {name: {"first": a, "second": b} for name, (a, b) in parameters.items()},
        "traces": {
            "matched": len(matches.pairs),
            "same_prompts": sum(pair.same_prompts for pair in matches.pairs),
            "same_outputs": sum(pair.same_outputs for pair in matches.pairs),
            "only_first": [one.trace_id for one in matches.only_first],
            "only_second": [one.trace_id for one in matches.only_second],
        },
        "different": [
            {
                "name": one.pair.first.key[0],
                "inputs": one.first.root.inputs,
                **{
                    name: {
                        "trace_id": trace.trace_id,
                        "duration": trace.duration,
                        "input_tokens": trace.input_tokens,
                        "output_tokens": trace.output_tokens,
                    }
                    for name, trace in (("first", one.first), ("second", one.second))
                },
                "texts": [
                    {"what": text.what, "first": text.first, "second": text.second}
                    for text in one.texts
                ],
            }
            for one in shown
        ],
    }


def show_numbers(
    first: RunSummary,
    second: RunSummary,
    parameters: dict[str, tuple[Any, Any]],
    screen: Screen,
    prices: Prices | None,
) -> None:
    from . import _words as words

    for name, style, one in (("A", "bold red", first), ("B", "bold green", second)):
        screen.parts(
            (f"{name}  ", style),
            (f"{words.name(one.experiment)} / {words.name(one.run)}  ", ""),
            (one.uri, "dim"),
        )
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
    rows = []
    for name in _COUNTS:
        a, b = getattr(first, name), getattr(second, name)
        rows.append([name.replace("_", " "), f"{a:,}", f"{b:,}", _change(a, b)])
    if prices is not None:
        a, b = first.cost, second.cost
        rows.append(["cost", words.usd(a) or "?", words.usd(b) or "?", _change(a, b)])
    for name, attribute in _PERCENTILES.items():
        for mark in _MARKS:
            a, b = (getattr(getattr(one, attribute), mark) for one in (first, second))
            if a is not None or b is not None:
                said = (words.seconds(a) or "–", words.seconds(b) or "–")
                rows.append([f"{name} {mark}", *said, _change(a, b)])
    screen.heading("Numbers")
    screen.table(["", "A", "B", "change"], rows, right={"A", "B", "change"})
    logged = sorted(
        name
        for name in {*first.metrics, *second.metrics}
        if not name.startswith(("gen_ai.", "asynctrack."))
    )
    if logged:
        screen.heading("Metrics, last values")
        values = [(name, _last(first, name), _last(second, name)) for name in logged]
        screen.table(
            ["name", "A", "B", "change"],
            [
                [
                    words.name(name),
                    *("–" if one is None else f"{one:.6g}" for one in (a, b)),
                    _change(a, b),
                ]
                for name, a, b in values
            ],
            right={"A", "B", "change"},
        )


def show_matches(matches: Matches, shown: list[Shown], screen: Screen) -> None:
    from . import _words as words
    from ._textdiff import show_text_diff

    pairs = matches.pairs
    prompts = sum(not pair.same_prompts for pair in pairs)
    outputs = sum(not pair.same_outputs for pair in pairs)
    screen.heading(
        f"Traces to the same inputs: {len(pairs):,}; other prompts in {prompts:,}, other outputs in"
        f" {outputs:,}"
    )
    for name, alone in (("A", matches.only_first), ("B", matches.only_second)):
        if alone:
            screen.line(f"Only in {name}: {len(alone):,} traces, the first is {alone[0].trace_id}")
    for one in shown:
        root = one.first.root
        screen.line()
        screen.parts(
            (words.name(one.pair.first.key[0]), "bold"),
            (f"  {words.one_line(root.inputs, 100)}", ""),
        )
        for name, trace, style in (
            ("A", one.first, "bold red"),
            ("B", one.second, "bold green"),
        ):
            screen.parts(
                (f"  {name}  ", style),
                (f"{trace.trace_id}  {words.seconds(trace.duration) or 'not whole'}", ""),
                (f"  {trace.input_tokens:,} → {trace.output_tokens:,} tokens", ""),
            )
        for text in one.texts:
            screen.parts((f"  {words.name(text.what)}", "magenta"))
            show_text_diff(text.first, text.second, screen)
    hidden = len(matches.different) - len(shown)
    if hidden > 0:
        screen.line(f"\n{hidden:,} more differ; --top N shows more of them.")


def _change(a: float | None, b: float | None) -> str:
    if a is None or b is None or a == b:
        return ""
    if not a:
        return f"{b - a:+,.6g}"
    change = (b - a) / a
    return f"{change:+.0%}" if abs(change) >= 0.005 else "±0%"


def _last(summary: RunSummary, name: str) -> float | None:
    metric = summary.metrics.get(name)
    return None if metric is None else metric.last
