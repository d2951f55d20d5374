"""The demo's report, and how a human sees it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynctrack.demo._overhead import Overhead
    from asynctrack.demo._run import LoggedCall, Outcome

    from ._screen import Screen

#: The columns of the data frame that are shown, with the headings they get.
_COLUMNS = {
    "TrialComponentName": "TrialComponentName",
    "scenario": "scenario",
    "gen_ai.request.model": "gen_ai.request.model",
    "gen_ai.request.temperature": "….temperature",
    "gen_ai.client.operation.duration - Avg": "LLM seconds",
    "answer_characters - Last": "answer_characters",
}
_STATISTICS = ("accepted", "delivered", "pending", "dead_lettered", "artifacts", "bytes_delivered")
_CLOCKS = ("your thread", "all threads, until delivered")
_ADDED = "{0.value:+.1f} µs ({0.low:.1f} to {0.high:.1f})"
_RATIO = "{0.value:.2f} × ({0.low:.2f} to {0.high:.2f})"


@dataclass(frozen=True)
class Report:
    """All that the demo found out.

    Attributes:
        aws: ``"embedded"`` or ``"real"``.
        model_server: Its base URL.
        outcomes: What each scenario did.
        rows: The data frame's rows, without the columns that have no value.
        keys: The addresses of all objects, by Run.
        logged: One prompt with its answer, read back from S3.
        overhead: What tracking cost; None when it was not measured.
    """

    aws: str
    model_server: str
    outcomes: list[Outcome]
    rows: list[dict[str, Any]]
    keys: dict[str, list[str]]
    logged: LoggedCall
    overhead: Overhead | None
    folder: str | None = None
    """Where the events are afterwards, on this machine; None where AWS keeps them."""
    lacking: str = ""
    """The command that installs what the viewer needs; empty if it is there."""


def show(report: Report, screen: Screen) -> None:
    """Print the whole report."""
    where = "an embedded AWS on this machine" if report.aws == "embedded" else "your AWS account"
    screen.line(f"Tracked into {where}; the model server was {report.model_server}.")
    _show_frame(report, screen)
    _show_keys(report, screen)
    screen.heading("A prompt and its answer, loaded back from S3 with pandas")
    screen.line(f"asynctrack.events = {report.logged.address} ({report.logged.events} events)")
    screen.quote("Prompt", report.logged.prompt)
    screen.quote("Answer", report.logged.answer)
    _show_statistics(report, screen)
    _show_overhead(report, screen)
    _show_next(report, screen)


def _show_frame(report: Report, screen: Screen) -> None:
    screen.heading(
        f'ExperimentAnalytics("{report.outcomes[0].experiment}").dataframe(): '
        f"{len(report.rows)} rows, {len({name for row in report.rows for name in row})} columns, "
        "some of them:"
    )
    shown = [name for name in _COLUMNS if any(name in row for row in report.rows)]
    rows = [[_cell(row.get(name)) for name in shown] for row in report.rows]
    screen.table([_COLUMNS[name] for name in shown], rows)
    for outcome in report.outcomes:
        screen.quote(f"{outcome.run} answered", outcome.answer)


def _show_keys(report: Report, screen: Screen) -> None:
    screen.heading("Objects in S3")
    for keys in report.keys.values():
        for key in keys:
            screen.line(key)


def _show_statistics(report: Report, screen: Screen) -> None:
    screen.heading("handler.statistics() of each Run")
    rows = [
        [
            outcome.run,
            *(_cell(outcome.statistics[name]) for name in _STATISTICS),
            str(sum(outcome.statistics["dropped"].values())),
        ]
        for outcome in report.outcomes
    ]
    screen.table(["run", *_STATISTICS, "dropped"], rows)


def _show_overhead(report: Report, screen: Screen) -> None:
    overhead = report.overhead
    if overhead is None:
        return
    screen.heading("What it costs: CPU added to each callback, measured just now")
    rows = [
        [name, form.format(figures.thread), form.format(figures.process)]
        for name, form, figures in (
            ("empty async handler", _ADDED, overhead.empty),
            ("asynctrack", _ADDED, overhead.asynctrack),
            ("asynctrack ÷ empty", _RATIO, overhead.ratio),
        )
        if figures
    ]
    screen.table(["", *_CLOCKS], rows, right=_CLOCKS)
    if not overhead.ratio:
        screen.line(
            "They scatter too much to compare: this machine has other work. Try again when it is "
            "idle."
        )
    screen.line(
        f"Once for each tracker, opening and closing: {overhead.life_cpu / 1e3:.0f} ms of CPU, "
        f"{overhead.life / 1e3:.0f} ms in all."
    )
    screen.line(
        "The empty one costs the tasks that langchain-core makes for an async handler's callbacks; "
        "asynctrack goes without, and costs capturing, redacting, encoding and storing each event, "
        "and in other threads compressing and sending it."
    )
    screen.line(
        f"Medians of {overhead.rounds} short rounds in turns, with 95 % intervals, which are wide "
        "as it only takes seconds: "
        f"{overhead.invocations} ainvoke of prompt | chat model | parser, "
        f"{overhead.concurrency} at a time, {overhead.callbacks} callbacks each (the chain itself "
        f"takes {overhead.chain:.0f} µs for each). They scatter with the machine's load, "
        "and would with full garbage collections, which gc.freeze() keeps out here; with those, "
        "and beside other tracers: benchmarks/results/report.md"
    )


def _show_next(report: Report, screen: Screen) -> None:
    screen.heading("What to do next")
    place = report.folder or report.logged.address.rpartition("run=")[0]
    screen.line(f"asynctrack view {shlex.quote(place)}    all of it in your browser")
    if report.lacking:
        screen.line(f"    that needs: {report.lacking}")
    if report.aws == "embedded":
        screen.line("asynctrack demo --style classic    the old notebook, with one import changed")
        screen.line("asynctrack demo --aws real         the same in your own AWS account")
    else:
        name = report.outcomes[0].experiment
        screen.line("asynctrack demo                    an embedded AWS, and what tracking costs")
        screen.line(f'The Runs are in the experiment "{name}" of your account, and stay there.')
    screen.line("In your own code: async with tracker(run) as handler: ... (asynctrack guide)")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
